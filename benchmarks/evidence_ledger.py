"""The file of finished runs: one JSON line a run, none of them ever run again.

A line has these fields:

    arm          a method with its settings, "group/method"
    protocol     what it is trained and tested on, of `protocols.PROTOCOLS`
    seed         of the run
    data         name and digest of the photos, how many train and test
    settings     all settings of the run
    versions     of Python and the packages
    device       its name
    seconds      {"fit": ..., "whole": ...}
    figures      the metrics by name, to 6 digits
    photos       numbers of the tested photos
    labels       their classes
    predictions  the predicted classes

Several processes may add to one file at a time. One that is killed leaves at
most an incomplete last line, which does not count and which the next run
removes.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has none: there one process at a time may write.
    fcntl = None

FIELDS = (
    *("arm", "protocol", "seed", "data", "settings", "versions", "device"),
    *("seconds", "figures", "photos", "labels", "predictions"),
)

Line = dict[str, Any]


class LedgerError(Exception):
    """A file of runs that cannot be read, or a run that contradicts it.

    Its message says what to do.
    """


class Ledger:
    """The finished runs of one file.

    Args:
        path: The file. It need not exist yet.
        defaults: Values of the settings that a line lacks: they are newer than
            the line.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        # As JSON gives them back: tuples as lists.
        self._defaults = json.loads(json.dumps(dict(defaults or {})))

    @property
    def lines(self) -> list[Line]:
        """All finished runs in their order, as the file has them now.

        Raises:
            LedgerError: If a line before the last one is not valid, a field is
                missing, or a run is there twice.
        """
        # Read anew each time: other processes write there too.
        content = self.path.read_bytes() if self.path.exists() else b""
        return self._parse(content)[0]

    def find(
        self,
        arm: str,
        protocol: str,
        seed: int,
        settings: Mapping[str, Any],
        digest: str,
    ) -> Line | None:
        """The line of a run, or None if it has not been run.

        Args:
            arm: Name of the arm.
            protocol: Name of the protocol.
            seed: Seed of the run.
            settings: Those that it would be run with now.
            digest: Digest of the photos that it would see now.

        Raises:
            LedgerError: If the arm has been run under this protocol, with this
                seed or another, with other settings or on other photos; and as
                `lines`.
        """
        return self._find(self.lines, arm, protocol, seed, settings, digest)

    def append(self, line: Line) -> None:
        """Adds a finished run; it is on the disk when this returns.

        Args:
            line: All of `FIELDS`, as JSON can hold them.

        Raises:
            LedgerError: If a field is missing, a number is NaN or infinite,
                the run is there already, or its arm has other settings there.
        """
        self._check(line, "the new line")
        metrics = {
            name: float(f"{value:.6g}")
            for name, value in line["figures"].items()
        }
        try:
            text = json.dumps(
                {**line, "figures": metrics},
                allow_nan=False,
                separators=(",", ":"),
            )
        except ValueError as error:
            raise LedgerError(
                f"{self.path}: numbers must be finite, received NaN or "
                f"infinity in {_run(line)}. Did its training diverge? Lower "
                "its learning rate."
            ) from error
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)  # Until the file is closed.
            file.seek(0)
            content = file.read()
            lines, end = self._parse(content)
            run = line["arm"], line["protocol"], line["seed"]
            if self._find(lines, *run, line["settings"], _digest(line)):
                raise LedgerError(
                    f"{self.path}: a run must be there once, received "
                    f"{_run(line)} again. Another process has finished it "
                    "meanwhile: give each its own arms or seeds."
                )
            file.truncate(end)
            # An editor may have taken the last newline away.
            start = "\n" if end and content[end - 1 : end] != b"\n" else ""
            file.write(f"{start}{text}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def _parse(self, content: bytes) -> tuple[list[Line], int]:
        """The lines, and how many bytes they take: the rest is a cut line."""
        lines: list[Line] = []
        seen: dict[str, int] = {}
        end = 0
        pieces = content.splitlines(keepends=True)
        for number, piece in enumerate(pieces, 1):
            place = f"line {number}"
            try:
                line = json.loads(piece.decode())
            except ValueError as error:
                if number == len(pieces):
                    break
                raise LedgerError(
                    f"{self.path}: {place} must be JSON, received {error}. "
                    "Remove that line: its run is then run again."
                ) from error
            self._check(line, place)
            first = seen.setdefault(_run(line), number)
            if first != number:
                raise LedgerError(
                    f"{self.path}: a run must be there once, received "
                    f"{_run(line)} in line {first} and again in {place}. "
                    "Remove one of them."
                )
            settings = {**self._defaults, **line["settings"]}
            lines.append({**line, "settings": settings})
            end += len(piece)
        return lines, end

    def _check(self, line: Any, place: str) -> None:
        missing = [
            name
            for name in FIELDS
            if not isinstance(line, dict) or name not in line
        ]
        if missing:
            raise LedgerError(
                f"{self.path}: {place} must have the fields "
                f"{', '.join(FIELDS)}; it lacks {', '.join(missing)}."
            )
        counts = {
            name: len(line[name])
            for name in ("photos", "labels", "predictions")
        }
        if len(set(counts.values())) > 1:
            raise LedgerError(
                f"{self.path}: {place} must have one label and one prediction "
                f"for each photo, received {counts}."
            )

    def _find(
        self,
        lines: list[Line],
        arm: str,
        protocol: str,
        seed: int,
        settings: Mapping[str, Any],
        digest: str,
    ) -> Line | None:
        now = json.loads(json.dumps({**self._defaults, **settings}))
        found = None
        for line in lines:
            if (line["arm"], line["protocol"]) != (arm, protocol):
                continue
            # Of another seed too: one mean is over runs that differ in nothing
            # else.
            differences = _differences(line["settings"], now)
            if _digest(line) != digest:
                differences.append(
                    f"photos {_digest(line)!r} there, {digest!r} now"
                )
            if differences:
                raise LedgerError(
                    f"{self.path}: an arm must have the settings and photos "
                    f"of its finished runs, received for {_run(line)}: "
                    f"{'; '.join(differences)}. Give the arm another name, "
                    "write to another file, or remove its lines."
                )
            if line["seed"] == seed:
                found = line
        return found


def _run(line: Line) -> str:
    return f"{line['arm']}, {line['protocol']}, seed {line['seed']}"


def _digest(line: Line) -> str:
    return line["data"]["digest"]


def _differences(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{name} {_written(there, name)} there, {_written(now, name)} now"
        for name in dict.fromkeys((*there, *now))
        if _written(there, name) != _written(now, name)
    ]


def _written(settings: dict[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "not given"
