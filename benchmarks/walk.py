"""The way of a new user, from a wheel to an app, and how long each step takes.

    python benchmarks/walk.py

builds the wheel, installs it into a fresh environment, writes drawn birds as a
folder of JPEG files, and runs every command of `keras-finegrain` on them, then
each exported file by the lines of docs/export.md. It ends at the first command
that fails. The few drawn birds show that each step runs, not how good an
answer is. Packages come from where pip gets them. With photos of your own,
a folder for each class, and what `train` is to be told:

    python benchmarks/walk.py --photos photos/ -- --backbone MobileNetV2
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXTRAS = "tensorflow,command,onnx,litert,report,search"
# Drawn birds need no weights from a network.
TRAIN_ON_DRAWN = ("--backbone", "small", "--image-size", "64")
# What a class keeps back: photos that the run has never seen.
NEW = 2
DRAW = """
import pathlib, sys
from PIL import Image
from keras_finegrain import datasets
birds = datasets.load("synthetic_birds/tiny")
for number, (image, label) in enumerate(birds.train.concatenate(birds.test)):
    folder = pathlib.Path(sys.argv[1]) / birds.class_names[int(label)]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.numpy()).save(folder / f"{number:04d}.jpg")
"""


class Walk:
    """Runs commands in one folder and keeps their times.

    Args:
        folder: Where they run; it is outside of any clone.
        lines: How many lines of each one's answer are printed.
    """

    def __init__(self, folder: pathlib.Path, lines: int) -> None:
        self.folder, self.lines = folder, lines
        self.times: list[tuple[str, float]] = []
        self.programs = folder / "venv" / "bin"

    def step(self, name: str, program: str, *words: object) -> None:
        """Runs a program of the environment and prints what it says."""
        path = self.programs / program
        command = [str(path if path.exists() else program), *map(str, words)]
        shown = " ".join([program, *map(str, words)])
        print(f"\n$ {shown if len(shown) < 400 else f'{program} …'}")
        # A clone on the path would stand in for the wheel.
        environment = {
            key: value
            for key, value in os.environ.items()
            if key != "PYTHONPATH"
        }
        started = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        self.times.append((name, time.perf_counter() - started))
        print("\n".join(done.stdout.splitlines()[-self.lines :]), flush=True)
        if done.returncode:
            sys.exit(f"{done.stderr}\n{name}: status {done.returncode}")


def clients() -> dict[str, str]:
    """The lines of docs/export.md that run a file, by its name there."""
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    return {
        file: block
        for file in ("wrens.onnx", "wrens.tflite", '"wrens"')
        for block in blocks
        if file in block and "photo.jpg" in block
    }


def set_aside(folder: pathlib.Path, strangers: int) -> None:
    """Moves the last classes, and some photos of each other, out of photos/."""
    classes = sorted(each for each in (folder / "photos").iterdir())
    for each in classes[-strangers:]:
        each.rename(folder / "strangers" / each.name)
        *_, last = sorted((folder / "strangers" / each.name).iterdir())
        shutil.copy(last, folder / "stranger.jpg")
    for each in classes[:-strangers]:
        for photo in sorted(each.iterdir())[-NEW:]:
            photo.rename(folder / "new" / f"{each.name} {photo.name}")
    shutil.copy(min((folder / "new").iterdir()), folder / "photo.jpg")
    for photo in sorted((folder / "strangers" / classes[-1].name).iterdir())[
        :5
    ]:
        shutil.copy(photo, folder / "five")


def walk(
    at: Walk, photos: pathlib.Path | None, strangers: int, train: list[str]
) -> None:
    """Every step, in a user's order."""
    folder = at.folder
    at.step(
        "build the wheel",
        sys.executable,
        *["-m", "pip", "wheel", "-q", "--no-deps", "-w"],
        folder,
        ROOT,
    )
    at.step("make an environment", sys.executable, "-m", "venv", "venv")
    (wheel,) = folder.glob("keras_finegrain-*.whl")
    at.step("install", "pip", "install", "-q", f"{wheel}[{EXTRAS}]")
    for name in ("strangers", "new", "five"):
        (folder / name).mkdir()
    if photos is None:
        at.step("draw birds", "python", "-c", DRAW, "photos")
    else:
        shutil.copytree(photos, folder / "photos")
    set_aside(folder, strangers)

    def step(name: str, *words: object) -> None:
        at.step(name, "keras-finegrain", name, *words)

    step("check", "photos")
    step("train", "photos", "--output", "run", *train)
    step("evaluate", "run")
    step("report", "run")
    step("identify", "run", "photo.jpg")
    step("identify", "run", "new")
    step("identify", "run", "strangers")
    step("similar", "run", "photo.jpg")
    step("add", "run", "new class", "five")
    step("identify", "run", "stranger.jpg")
    names = {
        "onnx": "wrens.onnx",
        "litert": "wrens.tflite",
        "saved_model": '"wrens"',
    }
    for format, name in names.items():
        output = name.strip('"')
        words = ("--format", format, "--embedding", "--output", output)
        step("export", "run", *words)
        at.step(f"run {format}", "python", "-c", clients()[name])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--photos", type=pathlib.Path)
    parser.add_argument(
        "--strangers",
        type=int,
        default=1,
        help="classes that are not trained on",
    )
    parser.add_argument(
        "--lines", type=int, default=8, help="of each answer, at most"
    )
    parser.add_argument("train", nargs="*", help="options of train, behind --")
    given = parser.parse_args()
    train = given.train or ([] if given.photos else list(TRAIN_ON_DRAWN))
    with tempfile.TemporaryDirectory() as folder:
        at = Walk(pathlib.Path(folder).resolve(), given.lines)
        walk(at, given.photos, given.strangers, train)
    print("\n| step | seconds |\n|---|---:|")
    for name, seconds in at.times:
        print(f"| {name} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
