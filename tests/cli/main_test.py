"""Exit statuses, and what goes to stdout and to stderr."""

import io
import json
import shutil

import pytest

import keras_finegrain
from keras_finegrain.cli import check, main
from keras_finegrain.cli.main import COMMANDS
from keras_finegrain.cli.output import CommandError

pytestmark = pytest.mark.one_backend


def raising(monkeypatch, error):
    def run(options, out):
        out.resume = "Go on so."
        print("a library's print")
        if error is not None:
            raise error
        out.say("a note")
        out.answer("a line")
        out.result({"a": 1})
        return 0

    monkeypatch.setattr(check, "run", run)


def test_help_and_version_are_done(capsys):
    assert main(["--help"]) == 0
    assert "identify" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == keras_finegrain.__version__


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_letters_that_a_terminal_has_not_are_escaped(monkeypatch, encoding):
    def run(options, out):
        out.answer("caf\udce9 λ")
        return 0

    monkeypatch.setattr(check, "run", run)
    stdout = io.TextIOWrapper(io.BytesIO(), encoding, newline="")
    monkeypatch.setattr("sys.stdout", stdout)
    assert main(["train", "--help"]) == 0
    assert main(["check", "x"]) == 0
    written = stdout.buffer.getvalue().decode(encoding)
    greek = "λ" if encoding == "utf-8" else r"\u03bb"
    assert written.endswith(rf"caf\udce9 {greek}" + "\n")


def test_the_help_of_a_command_says_each_default_once(capsys):
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert all(
            option.lower().count("default") < 2 for option in text.split(" --")
        )
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "over all devices (default: 32)" in text
    assert "than you report (default: 0)" in text


@pytest.mark.parametrize("words", [[], ["nothing"], ["check"], ["check", "-x"]])
def test_wrong_words_are_wrong_use(words, capsys):
    assert main(words) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (CommandError("take another"), 2, "check: error: take another\n"),
        # As it was written: a line each, and names with two spaces.
        (CommandError("2 photos:\na  b.jpg\nc.jpg"), 2, ":\na  b.jpg\nc.jpg\n"),
        (OSError(28, "No space left"), 2, "No space left"),
        # Python's own: not a sentence for users.
        (KeyError("a"), 1, "defect of keras-finegrain"),
        (ValueError("of a library"), 1, "defect of keras-finegrain"),
        (TypeError("missing argument"), 1, "defect of keras-finegrain"),
        (KeyboardInterrupt(), 130, "what is finished stays. Go on so."),
    ],
)
def test_each_end_has_its_status(monkeypatch, capsys, error, status, said):
    raising(monkeypatch, error)
    assert main(["check", "x"]) == status
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_an_error_of_this_package_is_one_line(capsys):
    assert main(["identify", "no_such_run", "a.jpg"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "keras-finegrain train photos/" in error


def test_a_photo_that_is_gone_is_no_defect(
    monkeypatch, capsys, folder, tmp_path
):
    from keras_finegrain import datasets

    def run(options, out):
        data = datasets.load(options.data)
        shutil.rmtree(options.data)
        return len(list(data.train))

    monkeypatch.setattr(check, "run", run)
    copy = shutil.copytree(folder, tmp_path / "birds")
    assert main(["check", str(copy)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"keras-finegrain check: error: The image '{copy}")
    assert error.endswith("cannot be read: No such file or directory\n")


def test_json_is_the_only_thing_on_stdout(monkeypatch, capsys):
    raising(monkeypatch, None)
    assert main(["check", "x", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": 1}
    assert "a note" in captured.err


def test_quiet_leaves_the_answer(monkeypatch, capsys):
    raising(monkeypatch, None)
    assert main(["check", "x", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "a line\n"
    assert "a note" not in captured.err
