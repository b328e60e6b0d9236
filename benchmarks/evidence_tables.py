"""Tables of finished runs: what each arm reaches, and what it gains.

The arms of a group, on the same photos and under one protocol, have two tables.
The first has the mean of each metric over the seeds of an arm. The second has
the difference to the group's baseline, which is the arm named ".../softmax", or
the first one: over the seeds that both have, and over the photos.

The two intervals of a difference answer two questions. Over the seeds: would
other seeds, tested on these photos, give the same result? Over the photos:
would these same models give it on other photos of these classes? Under cv and
open_set another seed also means another fold or draw; the first interval
includes that.
"""

import fnmatch
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_finegrain.training.tables import (
    Column,
    difference_cells,
    markdown,
    mean_cells,
    shared_columns,
)

BASELINE = "/softmax"
RESAMPLES = 10_000
_NOTHING = "–"

Line = Mapping[str, Any]
# The lines of one arm: seed, line.
Runs = dict[int, Line]


def tables(lines: Iterable[Line], only: Sequence[str] = ("*",)) -> str:
    """The tables of all groups, as Markdown.

    Args:
        lines: Finished runs, as `evidence_ledger` has them.
        only: Which arms get a row: patterns as of a shell, such as
            `"tail/*"`. Defaults to all. The baseline stays the group's.

    Raises:
        ValueError: If a run is there twice, or runs of one arm had different
            settings.
    """
    parts = []
    for (group, protocol, _), arms in _groups(lines).items():
        shown = _named(arms, only)
        if not shown:
            continue
        of_group = [line for runs in arms.values() for line in runs.values()]
        columns = shared_columns(line["figures"] for line in of_group)
        parts.append(_heading(group, protocol, of_group))
        parts.append(markdown(_means(arms, shown, columns)))
        base = next(
            (arm for arm in arms if arm.endswith(BASELINE)), next(iter(arms))
        )
        differences = _differences(arms, shown, base, columns, protocol)
        if len(differences) > 1:
            parts.append(markdown(differences))
        command = f"--only '{group}/*' --protocol {protocol} --seeds"
        parts.append(_caption(of_group, f"{command} {_most_seeds(of_group)}"))
    return "\n".join(parts)


def tables_against(
    base: str, lines: Iterable[Line], only: Sequence[str] = ("*",)
) -> str:
    """The differences of arms of any group to one arm, as Markdown.

    Args:
        base: The arm that all others are compared with, on the same photos
            and under the same protocol.
        lines: As in `tables`.
        only: As in `tables`.

    Raises:
        ValueError: As in `tables`.
    """
    merged: dict[tuple[str, str], dict[str, Runs]] = {}
    for (_, protocol, digest), arms in _groups(lines).items():
        merged.setdefault((protocol, digest), {}).update(arms)
    parts = []
    for (protocol, _), arms in merged.items():
        shown = [arm for arm in _named(arms, only) if arm != base]
        if base not in arms or not shown:
            continue
        compared = [
            line for arm in [base, *shown] for line in arms[arm].values()
        ]
        columns = shared_columns(line["figures"] for line in compared)
        parts.append(_heading(f"against {base}", protocol, compared))
        parts.append(
            markdown(_differences(arms, shown, base, columns, protocol))
        )
        patterns = " ".join(f"'{pattern}'" for pattern in only)
        parts.append(
            _caption(compared, f"--table --against {base} --only {patterns}")
        )
    return "\n".join(parts)


def _named(arms: Iterable[str], only: Sequence[str]) -> list[str]:
    """The arms that a pattern names."""
    return [
        arm
        for arm in arms
        if any(fnmatch.fnmatchcase(arm, pattern) for pattern in only)
    ]


def _heading(title: str, protocol: str, lines: list[Line]) -> str:
    data = lines[0]["data"]
    return f"### {title}, {protocol}, {data['name']} ({data['digest'][:8]})\n"


def photo_interval(
    differences: Sequence[float], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """A 95 % interval of a mean over photos, by the percentile bootstrap.

    Args:
        differences: One number a photo.
        resamples: Number of draws of as many photos, with replacement.
        seed: Of those draws.

    Returns:
        The 2.5th and the 97.5th percentile of the means.

    Reference:

    - Efron, Bootstrap methods: another look at the jackknife, Annals of
      Statistics 1979.
    """
    values, counts = np.unique(np.asarray(differences), return_counts=True)
    photos = counts.sum()
    # A mean depends only on how often each value is drawn: a few counts a
    # resample in place of one number a photo.
    draws = np.random.default_rng(seed).multinomial(
        photos, counts / photos, resamples
    )
    low, high = np.percentile(draws @ values / photos, [2.5, 97.5])
    return float(low), float(high)


def _groups(
    lines: Iterable[Line],
) -> dict[tuple[str, str, str], dict[str, Runs]]:
    """Group, protocol and digest; arm; seed: in the order of the lines."""
    groups: dict[tuple[str, str, str], dict[str, Runs]] = {}
    for line in lines:
        arm, protocol, seed = line["arm"], line["protocol"], line["seed"]
        group = arm.split("/")[0], protocol, line["data"]["digest"]
        runs = groups.setdefault(group, {}).setdefault(arm, {})
        if seed in runs:
            raise ValueError(
                f"tables: lines must have a run once, received {arm}, "
                f"{protocol}, seed {seed} twice. Give one file at a time, or "
                "remove one of them."
            )
        first = next(iter(runs.values()), line)
        if line["settings"] != first["settings"]:
            raise ValueError(
                f"tables: the runs of an arm must have the same settings, "
                f"received others for {arm}, {protocol}, seeds "
                f"{first['seed']} and {seed}. Name one of them another arm."
            )
        runs[seed] = line
    return groups


def _means(
    arms: dict[str, Runs], shown: list[str], columns: list[Column]
) -> list[list[str]]:
    headings = [column.heading for column in columns]
    rows = [["arm", *headings, "seeds", "seconds a run"]]
    for arm in shown:
        runs = arms[arm].values()
        cells = mean_cells(columns, [line["figures"] for line in runs])
        seconds = statistics.median(line["seconds"]["whole"] for line in runs)
        rows.append([arm, *cells, str(len(runs)), f"{seconds:.1f}"])
    return rows


def _differences(
    arms: dict[str, Runs],
    shown: list[str],
    base: str,
    columns: list[Column],
    protocol: str,
) -> list[list[str]]:
    headings = [column.heading for column in columns]
    # The lines do not say which photos of open_set are of known classes.
    over_photos = protocol != "open_set"
    of_photos = [f"{headings[0]} over photos"] if over_photos else []
    rows = [[f"against {base}", *headings, *of_photos, "seeds"]]
    for arm in shown:
        if arm == base:
            continue
        pairs = [
            (line, arms[base][seed])
            for seed, line in arms[arm].items()
            if seed in arms[base]
        ]
        if not pairs:
            nothing = [_NOTHING] * (len(rows[0]) - 2)
            rows.append([arm, *nothing, "none shared"])
            continue
        cells = difference_cells(
            columns,
            [(line["figures"], other["figures"]) for line, other in pairs],
        )
        if over_photos:
            cells.append(_photo_cell(pairs))
        rows.append([arm, *cells, str(len(pairs))])
    return rows


def _photo_cell(pairs: list[tuple[Line, Line]]) -> str:
    """The difference in right answers, a photo at a time, in %."""
    of_photo: dict[int, list[int]] = {}
    for line, other in pairs:
        right_there = _right(other)
        for photo, right in _right(line).items():
            of_photo.setdefault(photo, []).append(right - right_there[photo])
    differences = [100 * float(np.mean(each)) for each in of_photo.values()]
    low, high = photo_interval(differences)
    return f"{np.mean(differences):+.1f} [{low:+.1f}, {high:+.1f}]"


def _right(line: Line) -> dict[int, int]:
    """1 for each photo with the right prediction, 0 for the others."""
    return {
        photo: int(label == prediction)
        for photo, label, prediction in zip(
            line["photos"], line["labels"], line["predictions"], strict=True
        )
    }


def _caption(lines: list[Line], command: str) -> str:
    devices = dict.fromkeys(line["device"] for line in lines)
    versions = dict.fromkeys(_versions(line["versions"]) for line in lines)
    seeds = sorted({line["seed"] for line in lines})
    named = ", ".join(map(str, seeds))
    return (
        f"{'; '.join(devices)}; {'; '.join(versions)}; "
        f"seed{'s' * (len(seeds) > 1)} {named}. ± is half of the 95 % "
        "t-interval over seeds; in brackets 95 % of the means over photos "
        f"that are drawn again. `python benchmarks/evidence.py {command}`\n"
    )


def _most_seeds(lines: list[Line]) -> int:
    return 1 + max(line["seed"] for line in lines)


def _versions(versions: Mapping[str, Any]) -> str:
    backend = versions["backend"]
    return f"Keras {versions['keras']} on {backend} {versions[backend]}"
