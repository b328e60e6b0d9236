r"""From photos on disk to augmented batches, against decoding alone.

    python benchmarks/input_pipeline.py

prints how long `datasets.batches` takes an image against the ceiling of
`tf.data`: reading and decoding the same files and nothing else. Between the
two stand the steps that have to come: the square of 224 pixels, with and
without the smoothing that keeps fine patterns from turning into others, and
the batch. The photos are drawn, of 500 by 375 pixels; `--dataset` takes a data
set of TFDS in their place:

    python benchmarks/input_pipeline.py --dataset caltech_birds2011 \
        --data-dir DIR
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import turns

CLASSES = 2
# One pass is a turn; of fewer images its start and end would count.
PASSES = 2


def draw_photos(folder: Path, count: int) -> None:
    """Writes JPEG files about as hard to decode as photos of birds."""
    import tensorflow as tf

    generator = np.random.default_rng(0)
    for index in range(count):
        # Coarse shapes, fine texture.
        image = sum(
            tf.image.resize(
                generator.uniform(0, weight, (rows, rows, 3)), (375, 500)
            )
            for rows, weight in ((5, 180.0), (60, 50.0), (200, 25.0))
        )
        encoded = tf.io.encode_jpeg(tf.cast(image, tf.uint8), quality=90)
        kind = "test" if index % 8 == 0 else "train"
        path = folder / kind / f"class {index // 8 % CLASSES}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.numpy())


def passes(dataset: Any, images: int) -> Callable[[], Any]:
    """A function that reads a data set to its end; its steps are images."""

    def read() -> None:
        for _ in range(PASSES):
            for _ in dataset:
                pass

    read.steps = PASSES * images
    return read


def ours(
    source: dict[str, str], size: int, batch: int, training: bool, augment: str
) -> Callable[[], Any]:
    """`datasets.batches`."""
    from keras_finegrain import datasets

    loaded = datasets.load(**source)
    batches = datasets.batches(
        loaded.train,
        image_size=size,
        batch_size=batch,
        training=training,
        augment=augment,
    )
    return passes(batches, loaded.train_size)


def encoded_of(source: dict[str, str]) -> tuple[Any, int]:
    """The files of the same images, undecoded, and how many there are."""
    import tensorflow as tf

    if Path(source["name"]).is_dir():
        files = sorted(map(str, Path(source["name"]).glob("train/*/*.jpg")))
        dataset = tf.data.Dataset.from_tensor_slices(files)
        return dataset.map(tf.io.read_file), len(files)
    import tensorflow_datasets as tfds

    builder = tfds.builder(source["name"], data_dir=source["data_dir"])
    records = builder.as_dataset(
        split="train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    return records.map(lambda record: record["image"]), len(records)


def by_hand(
    source: dict[str, str], size: int, batch: int, resize: str
) -> Callable[[], Any]:
    """Decoding, and nothing or only a resize behind it."""
    import tensorflow as tf

    encoded, count = encoded_of(source)

    def image_of(one: Any) -> Any:
        image = tf.io.decode_jpeg(one, channels=3)
        if resize == "none":
            return image
        return tf.image.resize(
            image, (size, size), antialias=resize == "smoothed"
        )

    dataset = encoded.map(image_of, num_parallel_calls=tf.data.AUTOTUNE)
    if resize != "none":
        dataset = dataset.batch(batch)
    return passes(dataset.prefetch(tf.data.AUTOTUNE), count)


def main() -> None:
    options = turns.parser(__doc__)
    options.add_argument("--dataset")
    options.add_argument("--data-dir")
    options.add_argument("--size", type=int, default=224)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--images", type=int, default=512)
    given = options.parse_args()
    if given.tiny:
        given.images, given.size = 32, 32
    with tempfile.TemporaryDirectory() as folder:
        source = {
            "name": given.dataset,
            "data_dir": given.data_dir,
            # All of which there are images.
            "classes": "*",
        }
        if given.dataset is None:
            draw_photos(Path(folder), given.images)
            source = {"name": folder}
        size = {"source": source, "size": given.size, "batch": given.batch}
        cases = [
            turns.Case(name, by_hand, {**size, "resize": resize})
            for name, resize in (
                ("decoding alone", "none"),
                ("decoding, a resize, batches", "plain"),
                ("decoding, a smoothed resize, batches", "smoothed"),
            )
        ]
        cases += [
            turns.Case(
                name, ours, {**size, "training": training, "augment": augment}
            )
            for name, training, augment in (
                ("batches(training=True)", True, "flip_crop"),
                ('batches(training=True, augment="flip")', True, "flip"),
                ("batches(training=False)", False, "none"),
            )
        ]
        timings = turns.in_turns(cases, given.rounds, given.tiny)
        turns.print_table("Seconds an image", cases, timings)


if __name__ == "__main__":
    main()
