"""The peer of a whole epoch is what it is taken for."""

import os
import subprocess
import sys
import time

import epoch
import pytest

pytestmark = pytest.mark.one_backend


def test_the_cpu_time_of_a_process_holds_that_of_the_ones_it_started():
    program = "import time\nwhile time.process_time() < 0.6: pass"
    with subprocess.Popen(
        [sys.executable, "-c", f"{program}\nprint(flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        before = time.process_time()
        child.stdout.readline()
        assert epoch.computing_seconds(child.pid) >= 0.5
        assert epoch.computing_seconds(os.getpid()) >= before + 0.5
        child.communicate(b"\n")


def test_the_peers_network_has_the_weights_of_torchvisions():
    pytest.importorskip("torch")
    network = epoch.plain_mobilenet_v2()
    assert sum(weight.numel() for weight in network.parameters()) == 2_223_872


def test_the_peers_crops_keep_half_of_a_photo_and_lie_within_it():
    pytest.importorskip("torch")
    for _ in range(50):
        left, top, right, bottom = epoch.random_part(96, 64)
        assert 0 <= left < right <= 96 + 1e-3
        assert 0 <= top < bottom <= 64 + 1e-3
        assert (right - left) * (bottom - top) >= 0.499 * 96 * 64
