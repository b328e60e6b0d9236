r"""A whole epoch on real photos, beside what a user would pick instead.

    KERAS_BACKEND=jax python benchmarks/epoch.py --data runs/sparrows.npz

trains all of MobileNetV2 with SoftTriple on the photos of a file that
`datasets.Photos` wrote, from encoded bytes to the update, on random crops that
are mirrored:

- as `keras-finegrain train` does: photos that are decoded once into the
  device's memory and cut there, on every backend that is installed, that of
  KERAS_BACKEND first; and files that `tf.data` reads and cuts;
- as users of PyTorch Metric Learning write it: Pillow behind a DataLoader with
  a process a core, autocast, AdamW; on a GPU also with `torch.compile` and
  channels last.

The first table is printed row by row: the seconds from the start of a process,
imports and compilation included, to the end of its first step and of its first
epoch. In the second the cases train an epoch each in turns; "30 epochs" is the
first one and 29 times the median. A case whose packages are missing is named.
"""

import argparse
import fnmatch
import importlib.util
import io
import math
import os
import queue
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import turns
from printed_tables import begin_table, print_row

# More than are ever trained: the process is ended before.
EPOCHS = 10_000
# Of SoftTriple, and of the photo that a crop keeps: as ours.
CENTERS, TAU, AREA, ASPECT = 10, 0.2, (0.5, 1.0), (3 / 4, 4 / 3)
# What ImageNet's pixels are, as torchvision's users divide by.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def ours(
    data: str,
    backbone: str,
    size: int,
    batch: int,
    precision: str,
    photos: int | None,
    jit_compile: bool,
    folder: str | None = None,
) -> Callable[[], Any]:
    """An epoch of `training.train`, with `folder` from files there."""
    # A user's first run finds nothing compiled.
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    import keras
    import numpy as np

    from keras_finegrain import datasets
    from keras_finegrain.training import (
        ImageStream,
        PhotosOnDevice,
        PhotoSplit,
        Settings,
        train,
    )

    stored = datasets.Photos.load(data)
    train_photos = np.flatnonzero(~stored.is_test)[:photos]
    settings = Settings(
        method="soft_triple",
        backbone=backbone,
        weights="none",
        image_size=size,
        batch_size=batch,
        epochs=EPOCHS,
        mixed_precision=precision,
        xla=jit_compile and keras.backend.backend() == "tensorflow",
    )
    source: Any = PhotoSplit(
        PhotosOnDevice(stored),
        stored.labels,
        train_photos,
        np.flatnonzero(stored.is_test),
        stored.num_classes,
    )
    images = len(train_photos) // batch * batch
    if folder is not None:
        write_files(stored, train_photos, Path(folder))
        files = datasets.load(folder, missing_test_classes="allow")
        source = ImageStream(files)
        images = len(train_photos)  # The last batch has fewer.
    return epochs_of(
        lambda turn: train(settings, 0, source, callbacks=[turn]), images
    )


def epochs_of(run: Callable[[Any], Any], images: int) -> Callable[[], Any]:
    """A step that lets `fit` go on for an epoch; it waits between them.

    Args:
        run: Trains with a callback.
        images: Of an epoch.
    """
    import keras

    begin: queue.SimpleQueue[None] = queue.SimpleQueue()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    seconds: dict[str, float] = {}

    class Turn(keras.callbacks.Callback):
        # Keras need not wait for every step because of it.
        async_safe = True

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            begin.get()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seconds.setdefault("first step", since_start())

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            ended.put(None)

    def train() -> None:
        try:
            run(Turn())
        except BaseException as error:
            ended.put(error)

    threading.Thread(target=train, daemon=True).start()

    def epoch() -> None:
        begin.put(None)
        error = ended.get()
        if error is not None:
            raise error

    return noted(epoch, seconds, images)


def noted(
    epoch: Callable[[], Any], seconds: dict[str, float], images: int
) -> Callable[[], Any]:
    """An epoch that knows its images and when the first one ended."""
    computed: list[float] = []

    def step() -> None:
        before = computing_seconds(os.getpid())
        epoch()
        seconds.setdefault("first epoch", since_start())
        computed.append(computing_seconds(os.getpid()) - before)
        # The first one compiled.
        cpu = statistics.median(computed[1:] or computed)
        step.note = {**seconds, "images": images, "cpu": cpu}

    return step


def computing_seconds(process: int) -> float:
    """The CPU time of a process and of those that it started."""
    seconds = 0.0
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = file.read_text()
        except (FileNotFoundError, ProcessLookupError):  # It has just ended.
            continue
        fields = stat.rpartition(")")[2].split()
        if process in (int(fields[1]), int(file.parent.name)):
            # In user mode and in system mode.
            ticks = int(fields[11]) + int(fields[12])
            seconds += ticks / os.sysconf("SC_CLK_TCK")
    return seconds


def since_start() -> float:
    """Seconds since this process was started."""
    with open("/proc/self/stat", encoding="ascii") as file:
        # The 22nd field; the second is a name in brackets.
        ticks = int(file.read().rpartition(")")[2].split()[19])
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return now - ticks / os.sysconf("SC_CLK_TCK")


def write_files(photos: Any, train_photos: Any, folder: Path) -> None:
    """Writes photos to train on, and one to test, as a folder of folders."""
    for split, chosen in (("train", train_photos), ("test", train_photos[:1])):
        for place in chosen:
            name = f"{split}/{photos.labels[place]:04}/{place}.jpg"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(photos.encoded[place])


def peer(
    data: str,
    backbone: str,
    size: int,
    batch: int,
    precision: str,
    photos: int | None,
    compiled: bool,
) -> Callable[[], Any]:
    """An epoch as users of PyTorch Metric Learning write it."""
    import numpy as np
    import torch
    from PIL import Image
    from pytorch_metric_learning.losses import SoftTripleLoss
    from pytorch_metric_learning.regularizers import SparseCentersRegularizer
    from torch.nn import functional

    with np.load(data) as file:
        train = np.flatnonzero(~file["is_test"])[:photos]
        encoded = np.split(file["encoded"], file["ends"][:-1])
        labels, classes = file["labels"].tolist(), len(file["class_names"])
    mean, deviation = np.float32([MEAN, DEVIATION])

    class Photos(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(train)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            photo = train[index]
            image = Image.open(io.BytesIO(encoded[photo])).convert("RGB")
            box = random_part(*image.size)
            image = image.resize((size, size), Image.BILINEAR, box=box)
            if torch.rand(()) < 0.5:
                image = image.transpose(Image.FLIP_LEFT_RIGHT)
            pixels = (np.asarray(image, np.float32) / 255 - mean) / deviation
            channels_first = np.ascontiguousarray(pixels.transpose(2, 0, 1))
            return torch.from_numpy(channels_first), labels[photo]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    loader = torch.utils.data.DataLoader(
        Photos(),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=len(os.sched_getaffinity(0)),
        pin_memory=device == "cuda",
        persistent_workers=True,
    )
    network = torch_network(backbone).to(device)
    layout = torch.channels_last if compiled else torch.contiguous_format
    network = network.to(memory_format=layout)
    loss_of = SoftTripleLoss(
        classes,
        network(torch.zeros(2, 3, 64, 64, device=device)).shape[1],
        centers_per_class=CENTERS,
        weight_regularizer=SparseCentersRegularizer(classes, CENTERS),
        weight_reg_weight=TAU,
    ).to(device)
    weights = [*network.parameters(), *loss_of.parameters()]
    optimizer = torch.optim.AdamW(weights, 1e-3, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, EPOCHS * len(loader)
    )
    forward = torch.compile(network) if compiled else network
    half = torch.autocast(
        device, torch.bfloat16, enabled=precision == "bfloat16"
    )
    seconds: dict[str, float] = {}

    def epoch() -> None:
        total = torch.zeros((), device=device)
        for images, classes_of_images in loader:
            images = images.to(device, non_blocking=True, memory_format=layout)
            classes_of_images = classes_of_images.to(device, non_blocking=True)
            with half:
                maps = forward(images)
                embeddings = functional.adaptive_avg_pool2d(maps, 1).flatten(1)
            loss = loss_of(embeddings.float(), classes_of_images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            total += loss.detach()
            if not seconds:
                total.item()
                seconds["first step"] = since_start()
        if not math.isfinite(total.item()):
            raise ValueError("the loss became NaN or infinite")

    return noted(epoch, seconds, len(train) // batch * batch)


def random_part(width: int, height: int) -> tuple[float, ...]:
    """A random part of a photo, as torchvision's RandomResizedCrop draws it.

    Returns:
        Left, top, right and bottom in pixels.
    """
    import torch

    for _ in range(10):
        area = width * height * torch.empty(()).uniform_(*AREA).item()
        logarithm = torch.empty(()).uniform_(*map(math.log, ASPECT)).item()
        w = math.sqrt(area * math.exp(logarithm))
        h = area / w
        if w <= width and h <= height:
            left, top = torch.rand(2) * torch.tensor([width - w, height - h])
            return left.item(), top.item(), left.item() + w, top.item() + h
    return 0, 0, width, height


def torch_network(backbone: str) -> Any:
    """torchvision's, or MobileNetV2 without it; from images to a map."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError):  # (One of another PyTorch.)
        if backbone != "MobileNetV2":
            raise
        return plain_mobilenet_v2()
    if backbone == "MobileNetV2":
        return models.mobilenet_v2(weights=None).features
    network = getattr(models, backbone.lower())(weights=None)
    from torch import nn

    return nn.Sequential(*list(network.children())[:-2])


def plain_mobilenet_v2() -> Any:
    """MobileNetV2 (Sandler et al., CVPR 2018, table 2), as torchvision's."""
    from torch import nn

    def unit(
        inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups=1
    ) -> list[Any]:
        convolution = nn.Conv2d(
            *(inputs, outputs, kernel, stride, kernel // 2),
            groups=groups,
            bias=False,
        )
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True)]

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int, factor: int):
            super().__init__()
            wide = factor * inputs
            layers = unit(inputs, wide) if factor > 1 else []
            layers += unit(wide, wide, 3, stride, groups=wide)
            layers += unit(wide, outputs)[:-1]
            self.layers = nn.Sequential(*layers)
            self.adds = stride == 1 and inputs == outputs

        def forward(self, x: Any) -> Any:
            return x + self.layers(x) if self.adds else self.layers(x)

    layers, channels = unit(3, 32, 3, 2), 32
    for factor, outputs, count, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for place in range(count):
            first_stride = stride if place == 0 else 1
            layers.append(Block(channels, outputs, first_stride, factor))
            channels = outputs
    return nn.Sequential(*layers, *unit(channels, 1280))


def all_cases(
    on_gpu: bool, tiny: bool, folder: str, options: dict[str, Any]
) -> list[turns.Case]:
    """The most wanted first."""
    of_ours = {**options, "backbone": "small"} if tiny else options
    wanted = os.environ.get("KERAS_BACKEND", "tensorflow")
    own = [form.case(f"ours, {form.name}", ours, **of_ours) for form in FORMS]
    own.append(
        FORMS[0].case(
            f"ours from files, {FORMS[0].name}",
            ours,
            folder=folder,
            **of_ours,
        )
    )
    peers = [
        turns.Case(name, peer, {**options, "compiled": compiled}, "torch")
        for name, compiled in (
            ("PyTorch Metric Learning", False),
            ("the same, torch.compile, channels last", True),
        )
    ]
    first = [case for case in own if case.backend == wanted]
    others = [case for case in own if case.backend != wanted]
    return [*first, peers[0], *others, *([peers[1]] if on_gpu else [])]


FORMS = turns.forms(["tensorflow", "jax", "torch"])


def missing(case: turns.Case) -> str:
    """The package that a case needs and this machine lacks, or nothing."""
    packages = [case.backend]
    if case.build is peer:
        packages += ["pytorch_metric_learning", "PIL"]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return package
    return ""


def digits(seconds: float) -> str:
    """Three of them."""
    if seconds <= 0:
        return "0"
    return f"{seconds:.{max(0, 2 - math.floor(math.log10(seconds)))}f}"


def print_built(case: turns.Case, timing: turns.Timing) -> None:
    """A row of the first table."""
    if timing.error:
        print_row(case.name, timing.error, "")
        return
    note = timing.note
    print_row(
        case.name, digits(note["first step"]), digits(note["first epoch"])
    )


def print_epochs(
    cases: list[turns.Case], timings: list[turns.Timing], epochs: int
) -> None:
    """The second table."""
    columns = ("", "ratio", "range", "s an epoch", "images a second")
    columns += ("CPU s", "30 epochs, s")
    begin_table(f"An epoch, {epochs} in turns", *columns)
    reference = next((each for each in timings if each.seconds), None)
    for case, timing in zip(cases, timings, strict=True):
        if not timing.seconds:
            continue
        whole = timing.note["first epoch"] + 29 * timing.median
        print_row(
            case.name,
            str(turns.ratio(timing, reference)),
            digits(timing.median),
            f"{timing.note['images'] / timing.median:,.0f}",
            digits(timing.note["cpu"]),
            digits(whole),
        )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    on_gpu = shutil.which("nvidia-smi") is not None
    own = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    own.add_argument("--data", type=Path, default=Path("runs/sparrows.npz"))
    own.add_argument("--backbone", default="MobileNetV2")
    own.add_argument("--size", type=int, default=224, help="in pixels")
    own.add_argument("--batch", type=int, default=32)
    own.add_argument("--photos", type=int, help="only so many to train on")
    own.add_argument(
        "--precision",
        choices=["none", "bfloat16"],
        default="bfloat16" if on_gpu else "none",
        help="mixed precision, of all cases",
    )
    own.add_argument("--epochs", type=int, default=3, help="of each, in turns")
    own.add_argument(
        "--cases", nargs="+", default=["*"], metavar="PATTERN", help="some"
    )
    own.add_argument(
        "--seconds", type=float, default=math.inf, help="of the whole"
    )
    own.add_argument(
        "--tiny",
        action="store_true",
        help="sizes that say nothing, to see that the command works",
    )
    own.set_defaults(on_gpu=on_gpu)
    return own


def main() -> None:
    """Runs the command."""
    own = parser()
    given = own.parse_args()
    if not given.data.exists():
        own.error(
            f"--data {given.data}: there is no such file. `python benchmarks/"
            "evidence.py --prepare` makes it"
        )
    if given.tiny:
        given.size, given.batch, given.epochs, given.photos = 32, 4, 1, 8
    names = ("backbone", "size", "batch", "precision", "photos")
    options = {name: getattr(given, name) for name in names}
    options["data"] = str(given.data.resolve())
    print(
        f"\n{given.backbone}, {given.size} × {given.size} pixels, batch "
        f"{given.batch}, mixed precision {given.precision}; {given.data.name}."
    )
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for case in all_cases(given.on_gpu, given.tiny, folder, options):
            if not any(
                fnmatch.fnmatch(case.name, each) for each in given.cases
            ):
                continue
            if package := missing(case):
                print(f"\nNot measured: {case.name} (without {package}).")
            else:
                cases.append(case)
        begin_table(
            "From the start of the process, in seconds",
            *("", "to the first step's end", "to the first epoch's end"),
        )
        timings = turns.in_turns(
            cases, given.epochs, seconds=given.seconds, built=print_built
        )
    print_epochs(cases, timings, given.epochs)


if __name__ == "__main__":
    main()
