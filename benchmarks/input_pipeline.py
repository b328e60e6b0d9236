r"""From photos on disk to augmented batches, beside what else does it.

    python benchmarks/input_pipeline.py

prints how many images a second come out, as a multiple of what a PyTorch
DataLoader over Pillow gives: the same files, random parts of the same areas and
aspects, mirroring, size, batch and cores. The photos are drawn, of 500 by 375
pixels or `--photo 1000x750`; `--dataset` takes those of a data set of TFDS in
their place:

    python benchmarks/input_pipeline.py --dataset caltech_birds2011 \
        --data-dir DIR

A second table says how near the crops for testing come to Pillow's Lanczos
filter on the whole photo, in dB (PSNR). With Grain (`pip install grain`) the
first table has a row of it.
"""

import importlib.util
import io
import math
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import turns

CLASSES = 2
# One pass is a turn; of fewer images its start and end would count.
PASSES = 2
AREA, ASPECT = (0.5, 1.0), (3 / 4, 4 / 3)


def draw_photos(folder: Path, count: int, width: int, height: int) -> None:
    """Writes JPEG files about as hard to decode as photos of birds."""
    import tensorflow as tf

    generator = np.random.default_rng(0)
    for index in range(count):
        # Coarse shapes, fine texture.
        image = sum(
            tf.image.resize(
                generator.uniform(0, weight, (rows, rows, 3)), (height, width)
            )
            for rows, weight in ((5, 180.0), (60, 50.0), (200, 25.0))
        )
        encoded = tf.io.encode_jpeg(tf.cast(image, tf.uint8), quality=90)
        write_photo(folder, index, encoded.numpy())


def copy_photos(folder: Path, dataset: str, data_dir: str | None) -> None:
    """Writes the files of a data set of TFDS."""
    from keras_finegrain import datasets

    loaded = datasets.load(
        dataset, data_dir=data_dir, classes="*", decode=False
    )
    for index, (file, _) in enumerate(loaded.train.as_numpy_iterator()):
        write_photo(folder, index, file["encoded"])


def write_photo(folder: Path, index: int, encoded: bytes) -> None:
    """Writes one of eight to test on, and sorts the others into classes."""
    kind = "test" if index % 8 == 0 else "train"
    path = folder / kind / f"class {index // 8 % CLASSES}" / f"{index}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded)


def files_of(folder: str) -> list[str]:
    """The photos to train on."""
    return sorted(map(str, Path(folder).glob("train/*/*.jpg")))


def passes(dataset: Any, images: int) -> Callable[[], Any]:
    """A function that reads a data set to its end; its steps are images."""

    def read() -> None:
        for _ in range(PASSES):
            for _ in dataset:
                pass

    read.steps = PASSES * images
    return read


def random_part(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width, as torchvision's RandomResizedCrop."""
    for _ in range(10):
        area = height * width * random.uniform(*AREA)
        aspect = math.exp(random.uniform(*map(math.log, ASPECT)))
        rows, columns = (
            round(math.sqrt(area / aspect)),
            round(math.sqrt(area * aspect)),
        )
        if rows <= height and columns <= width:
            top = random.randint(0, height - rows)
            return top, random.randint(0, width - columns), rows, columns
    return 0, 0, height, width


def by_pillow(path: str, size: int) -> np.ndarray:
    """A random part of a photo, as torchvision's transforms cut it."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    top, left, rows, columns = random_part(image.height, image.width)
    image = image.crop((left, top, left + columns, top + rows))
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.array(image)


def by_opencv(path: str, size: int) -> np.ndarray:
    """A random part of a photo, as Albumentations cuts it."""
    import cv2

    cv2.setNumThreads(0)  # As its users do: the workers share the cores.
    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    top, left, rows, columns = random_part(*image.shape[:2])
    image = image[top : top + rows, left : left + columns]
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.flip(image, 1) if random.random() < 0.5 else image


READERS = {"Pillow": by_pillow, "OpenCV": by_opencv}


class TorchPhotos:
    """A data set of PyTorch, which is any object with these two methods."""

    def __init__(self, paths: list[str], size: int, reader: str, late: bool):
        self.paths, self.size, self.late = paths, size, late
        self.reader = READERS[reader]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import torch

        image = torch.from_numpy(self.reader(self.paths[index], self.size))
        image = image.permute(2, 0, 1).contiguous()
        # What torchvision's ToTensor does.
        return image if self.late else image.float().div(255), 0


def torch_loader(
    folder: str, size: int, batch: int, workers: int, reader: str, late: bool
) -> Callable[[], Any]:
    """PyTorch's DataLoader; the images become floats in the batch if late."""
    from torch.utils.data import DataLoader

    paths = files_of(folder)
    loader = DataLoader(
        TorchPhotos(paths, size, reader, late),
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
    )
    if not late:
        return passes(loader, len(paths))

    def read() -> None:
        for _ in range(PASSES):
            for images, _ in loader:
                images.float()

    read.steps = PASSES * len(paths)
    return read


def grain_loader(
    folder: str, size: int, batch: int, workers: int
) -> Callable[[], Any]:
    """Grain over Pillow, on threads."""
    import grain

    paths = files_of(folder)

    def read_one(path: str) -> np.ndarray:
        return by_pillow(path, size).astype("float32")

    dataset = grain.MapDataset.source(paths).shuffle(seed=0).map(read_one)
    threads = grain.ReadOptions(num_threads=workers)
    return passes(
        dataset.batch(batch).to_iter_dataset(read_options=threads), len(paths)
    )


def keras_directory(folder: str, size: int, batch: int) -> Callable[[], Any]:
    """Keras's own reader, and its random layers behind it."""
    import keras
    import tensorflow as tf

    dataset = keras.utils.image_dataset_from_directory(
        f"{folder}/train",
        image_size=(size * 8 // 7, size * 8 // 7),
        crop_to_aspect_ratio=True,
        batch_size=batch,
        verbose=False,
    )
    layers = [
        keras.layers.RandomCrop(size, size),
        keras.layers.RandomFlip("horizontal"),
    ]

    def augmented(images: Any, labels: Any) -> Any:
        for layer in layers:
            images = layer(images, training=True)
        return images, labels

    dataset = dataset.map(augmented, num_parallel_calls=tf.data.AUTOTUNE)
    return passes(dataset.prefetch(tf.data.AUTOTUNE), len(files_of(folder)))


def ours(
    folder: str,
    size: int,
    batch: int,
    decode: bool,
    training: bool = True,
    cache: bool = False,
) -> Callable[[], Any]:
    """`datasets.batches`."""
    from keras_finegrain import datasets

    loaded = datasets.load(folder, decode=decode)
    batches = datasets.batches(
        loaded.train,
        image_size=size,
        batch_size=batch,
        training=training,
        cache=cache,
    )
    return passes(batches, loaded.train_size)


def decoding_alone(folder: str) -> Callable[[], Any]:
    """Reading and decoding the same files, and nothing else."""
    import tensorflow as tf

    paths = files_of(folder)
    dataset = tf.data.Dataset.from_tensor_slices(paths).map(
        lambda path: tf.io.decode_jpeg(tf.io.read_file(path), channels=3),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return passes(dataset.prefetch(tf.data.AUTOTUNE), len(paths))


def print_quality(folder: str, size: int) -> None:
    """How far crops for testing are from Lanczos on the whole photo."""
    from PIL import Image

    from keras_finegrain.datasets import transforms
    from keras_finegrain.datasets.crops import evaluation_boxes
    from keras_finegrain.datasets.decoding import decoded_for

    errors: dict[str, list[float]] = {}
    for path in files_of(folder)[:32]:
        encoded = Path(path).read_bytes()
        whole = Image.open(io.BytesIO(encoded)).convert("RGB")
        reduced = decoded_for({"encoded": encoded, "origin": b""}, size)
        # The same part: of a reduced photo it ends at other whole pixels.
        box = evaluation_boxes([reduced.shape[:2]])[0]
        times = max(
            r for r in (1, 2, 4, 8) if reduced.shape[0] * r < whole.height + r
        )
        top, left, bottom, right = (times * box).tolist()
        part = (left, top, min(right, whole.width), min(bottom, whole.height))
        filters = Image.Resampling
        lanczos, triangle = (
            np.asarray(whole.resize((size, size), kind, box=part), float)
            for kind in (filters.LANCZOS, filters.BILINEAR)
        )
        whole_part = transforms.cut(np.asarray(whole), times * box)
        for name, image in (
            ("Pillow's bilinear filter", triangle),
            ("batches, images", transforms.resize(whole_part, size)),
            ("batches, files", transforms.evaluation_crop(reduced, size)),
        ):
            error = np.square(image - lanczos).mean()
            errors.setdefault(name, []).append(float(error))
    print("\nNearness to Pillow's Lanczos filter\n\n| | dB |\n|---|---:|")
    for name, squares in errors.items():
        error = np.mean(squares)
        print(f"| {name} | {10 * np.log10(255**2 / max(error, 1e-9)):.1f} |")


def main() -> None:
    options = turns.parser(__doc__)
    options.add_argument("--dataset")
    options.add_argument("--data-dir")
    options.add_argument("--photo", default="500x375", help="width x height")
    options.add_argument("--size", type=int, default=224)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--images", type=int, default=512)
    options.add_argument("--workers", type=int, default=2)
    given = options.parse_args()
    if given.tiny:
        given.images, given.size = 32, 32
    with tempfile.TemporaryDirectory() as folder:
        if given.dataset is None:
            width, height = map(int, given.photo.split("x"))
            draw_photos(Path(folder), given.images, width, height)
        else:
            copy_photos(Path(folder), given.dataset, given.data_dir)
        size = {"folder": folder, "size": given.size, "batch": given.batch}
        with_workers = {**size, "workers": given.workers}
        cases = [
            turns.Case(
                f"DataLoader, {reader}{', floats in the batch' * late}",
                torch_loader,
                {**with_workers, "reader": reader, "late": late},
                "torch",
            )
            for reader, late in (
                ("Pillow", False),
                ("Pillow", True),
                ("OpenCV", False),
                ("OpenCV", True),
            )
        ]
        if importlib.util.find_spec("grain"):
            cases.append(
                turns.Case("Grain, Pillow", grain_loader, with_workers, "torch")
            )
        cases.append(
            turns.Case(
                "image_dataset_from_directory, layers", keras_directory, size
            )
        )
        cases += [
            turns.Case(f"batches, {name}", ours, {**size, **arguments})
            for name, arguments in (
                ("files", {"decode": False}),
                ("images", {"decode": True}),
                ("images, cached", {"decode": True, "cache": True}),
                ("files, to test on", {"decode": False, "training": False}),
            )
        ]
        cases.append(
            turns.Case("decoding alone", decoding_alone, {"folder": folder})
        )
        timings = turns.in_turns(cases, given.rounds, given.tiny)
        print("\nImages a second\n\n| | times | range |\n|---|---:|---:|")
        for case, timing in zip(cases, timings, strict=True):
            cell = timing.error or turns.ratio(timings[0], timing)
            print(f"| {case.name} | {cell} |", flush=True)
        print_quality(folder, given.size)


if __name__ == "__main__":
    main()
