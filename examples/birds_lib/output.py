"""The folder of the results, and files that are never half written."""

import pathlib
import tempfile

from birds_lib.errors import RunError


def writable_folder(
    path: str, may_hold_results: bool, option: str
) -> pathlib.Path:
    """Makes the folder for the results.

    Args:
        path: The folder.
        may_hold_results: Whether it may hold the results of an earlier run.
        option: The option that allows this, for the message.

    Raises:
        RunError: If it cannot be written to, or holds an earlier run.
    """
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"--output {path}: cannot be written to ({error.strerror})"
        ) from error
    if (folder / "results.json").exists() and not may_hold_results:
        raise RunError(
            f"--output {path}: holds the results of an earlier run; choose "
            f"another folder or pass {option}"
        )
    return folder


def replace_file(path: pathlib.Path, text: str) -> None:
    """Writes a file in one step: a run that stops here keeps the old one."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)
