"""From the words of a command line to an exit status."""

import argparse
import contextlib
import importlib
import io
import logging
import os
import pathlib
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import keras_finegrain
from keras_finegrain.cli.output import (
    DEFECT,
    DONE,
    STOPPED,
    WRONG_USE,
    CommandError,
    Output,
)
from keras_finegrain.cli.parsing import HelpFormatter

# Each is a module of this package.
COMMANDS = {
    "train": "train on your photos, compare methods, write a run's folder",
    "evaluate": "measure a trained model on photos with known classes",
    "report": "write a page that shows what a model confuses, and why",
    "identify": "name the class of new photos, or say that it is unknown",
    "similar": "find the known photos that a photo looks like most",
    "add": "teach a run a new class by a few photos, without training",
    "export": "write the model for an app: SavedModel, ONNX or LiteRT",
    "check": "check that photos can be read, and say what is in them",
}

_PROGRAM = "keras-finegrain"
_PACKAGE = pathlib.Path(keras_finegrain.__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The words after the program's name; by default `sys.argv`'s.

    Returns:
        The exit status: 0 done, 1 a defect of this package, 2 wrong use or
        data (said in one sentence on stderr), 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # Names of files need not be UTF-8, and a terminal may know few letters.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = _parse(words)
    except SystemExit as error:  # of argparse, for --help too
        return int(error.code or 0)
    # TensorFlow warns of each function that it traces again, and TensorFlow
    # Datasets of its own deprecated names.
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    out = Output(options.json, options.quiet)
    with (
        # A library's print must not come between the answers.
        contextlib.redirect_stdout(sys.stderr),
        warnings.catch_warnings(),
    ):
        warnings.showwarning = lambda message, *_, **__: out.warn(str(message))
        return _run(_module(options.command), options, out)


def _run(module: Any, options: argparse.Namespace, out: Output) -> int:
    """Runs the command's module; every error becomes words and a status."""
    try:
        return int(module.run(options, out))
    except KeyboardInterrupt:
        then = f" {out.resume}" if out.resume else ""
        print(f"\nstopped; what is finished stays.{then}", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # of `| head`, which has read enough
        # Python would complain at its end, when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except Exception as error:
        text = _for_the_user(error)
        if text is None:
            traceback.print_exc()
            print(
                f"{_PROGRAM} {options.command}: this is a defect of "
                "keras-finegrain, not of your photos: please report it with "
                "the lines above",
                file=sys.stderr,
            )
            return DEFECT
        print(f"{_PROGRAM} {options.command}: error: {text}", file=sys.stderr)
        return WRONG_USE


def _for_the_user(error: Exception) -> str | None:
    """What an error says of wrong use or data; None for a defect."""
    from keras_finegrain.datasets.decoding import problem_of

    return str(error) if _is_wrong_use(error) else problem_of(error)


def _is_wrong_use(error: Exception) -> bool:
    """Whether an error was written for the user.

    That is what this package raises itself, and what the system says of files
    and disks. A ValueError from within Keras is a defect of ours.
    """
    if isinstance(error, (CommandError, OSError)):
        return True
    if isinstance(error, AssertionError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    is_ours = pathlib.Path(frames[-1].filename).is_relative_to(_PACKAGE)
    # (TrainingError derives from Exception.)
    named = type(error).__module__.startswith("keras_finegrain")
    return named or (is_ours and isinstance(error, (ValueError, ImportError)))


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Tell look-alike classes apart: from a folder of photos "
        "to an answer.",
        epilog="keras-finegrain COMMAND --help says what a command takes. "
        'Start with "keras-finegrain train photos/", where photos/ has a '
        "folder of photos for each class.",
    )
    parser.add_argument(
        "--version", action="version", version=keras_finegrain.__version__
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True
    )
    for name, line in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=line,
            description=f"{line[0].upper()}{line[1:]}.",
            formatter_class=HelpFormatter,
            # A slip such as --epoch would start a run of hours.
            allow_abbrev=False,
        )
        if name in words:
            _module(name).add_arguments(command)
        for option, text in (
            ("--json", "one JSON document on stdout, for machines"),
            ("--quiet", "no notes and no progress on stderr"),
        ):
            command.add_argument(option, action="store_true", help=text)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        commands.choices[options.command].error(
            f"unrecognized arguments: {' '.join(unknown)}"
        )
    return options


def _module(command: str) -> Any:
    return importlib.import_module(f"keras_finegrain.cli.{command}")
