"""A bar on a terminal, unless the user wants none."""

import io
import sys

import pytest

from keras_finegrain.training.progress import Steps

pytest.importorskip("tqdm")
pytestmark = pytest.mark.one_backend


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("bars", [True, False])
def test_quiet_shows_no_bars(bars, monkeypatch):
    from keras_finegrain.cli.progress import Progress

    monkeypatch.setattr(sys, "stderr", Terminal())
    with Steps("features", 3, lambda text: None, bars) as steps:
        steps.advance()
    assert ("features" in sys.stderr.getvalue()) == bars

    monkeypatch.setattr(sys, "stderr", Terminal())
    progress = Progress("softmax", lambda text: None, bars=bars)
    progress.set_params({"steps": 3, "epochs": 1})
    progress.on_epoch_begin(0)
    progress.on_epoch_end(0)
    assert ("softmax" in sys.stderr.getvalue()) == bars
