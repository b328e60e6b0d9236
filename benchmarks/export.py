r"""Exported files on real photos: size, time, and what 8 bits cost in accuracy.

    python benchmarks/evidence.py --prepare caltech_birds2011 \
        --classes sparrow --data runs/sparrows.npz
    python benchmarks/export.py --data runs/sparrows.npz \
        --backbone efficientnet_lite0_imagenet.keras

Heads of SoftTriple with several seeds are trained on the frozen backbone's
features of the training photos. One model holds the backbone and all heads, is
written in each way, and each file classifies all test photos. A difference in
accuracy is that of the same head on the same photos beside Keras: mean and 95 %
interval over the heads. Ranges of 8 bits come from training photos.

Times are of one photo on one thread, files in turns: medians of the rounds, as
ratios to the first file.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import keras
import numpy as np
from PIL import Image
from printed_tables import begin_table, print_row
from scipy import stats

import keras_finegrain
from keras_finegrain.datasets import Photos

FILES = {
    "ONNX": ("onnx", None, False),
    "ONNX, weights in 8 bits": ("onnx", "int8", False),
    "ONNX, products in 8 bits": ("onnx", "int8", True),
    "LiteRT": ("litert", None, False),
    "LiteRT, weights in 8 bits": ("litert", "int8", False),
    "LiteRT, products in 8 bits": ("litert", "int8", True),
}


def prepared(photos, chosen, size):
    """The central squares of 87.5 %, resized."""
    images = []
    for pixels in photos.decode(chosen):
        image = Image.fromarray(pixels)
        side = round(min(image.size) * 0.875)
        left, top = ((length - side) // 2 for length in image.size)
        box = (left, top, left + side, top + side)
        images.append(
            image.resize((size, size), Image.Resampling.BILINEAR, box=box)
        )
    return np.stack([np.asarray(image, "float32") for image in images])


def trained_head(features, labels, classes, seed, epochs):
    keras.utils.set_random_seed(seed)
    head = keras_finegrain.Sequential(
        [
            keras.Input(features.shape[1:]),
            keras_finegrain.SoftTriple(classes, centers_per_class=2),
        ]
    )
    head.compile(
        keras.optimizers.Adam(0.01), keras_finegrain.losses.SoftTripleLoss()
    )
    head.fit(features, labels, epochs=epochs, verbose=0)
    return head


def runner(path, format):
    """A function from images to the scores of a file, on one thread."""
    if format == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options)
        return lambda images: session.run(["scores"], {"images": images})[0]
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path), num_threads=1).get_signature_runner()
    return lambda images: run(images=images)["scores"]


def accuracies(scores, labels, heads):
    by_head = scores.reshape(len(labels), heads, -1)
    return (by_head.argmax(axis=-1) == labels[:, None]).mean(axis=0)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--heads", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--representative", type=int, default=100)
    parser.add_argument("--photos", type=int, help="fewer test photos")
    options = parser.parse_args()

    photos = Photos.load(options.data)
    train = prepared(photos, ~photos.is_test, options.size)
    test = prepared(photos, photos.is_test, options.size)[: options.photos]
    labels = photos.labels[photos.is_test][: options.photos]
    images = keras.Input((options.size, options.size, 3))
    backbone = keras.models.load_model(options.backbone)
    pooled = keras.layers.GlobalAveragePooling2D()(backbone(images))
    extractor = keras.Model(images, pooled)
    features = extractor.predict(train, verbose=0)
    heads = [
        trained_head(
            features,
            photos.labels[~photos.is_test],
            photos.num_classes,
            seed,
            options.epochs,
        )
        for seed in range(options.heads)
    ]
    scores = keras.layers.Concatenate()([head(pooled) for head in heads])
    model = keras.Model(images, scores)
    reference = model.predict(test, verbose=0)
    by_keras = accuracies(reference, labels, options.heads)
    print(
        f"{len(test)} test photos, {options.heads} heads; accuracy by Keras "
        f"{100 * by_keras.mean():.1f} %"
    )
    drawn = np.random.default_rng(0).permutation(len(train))
    samples = train[drawn[: options.representative]]

    rows, runs = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (format, quantize, products)) in enumerate(
            FILES.items()
        ):
            ending = {"onnx": ".onnx", "litert": ".tflite"}[format]
            path = keras_finegrain.export(
                model,
                pathlib.Path(folder, f"{number}{ending}"),
                format,
                quantize=quantize,
                representative_data=samples if products else None,
            )
            runs[name] = run = runner(path, format)
            given = np.concatenate([run(image[None]) for image in test])
            change = 100 * (accuracies(given, labels, options.heads) - by_keras)
            half = stats.t.ppf(0.975, options.heads - 1) * stats.sem(change)
            rows[name] = (
                f"{path.stat().st_size / 1e6:.1f}",
                f"{np.abs(given - reference).max():.1g}",
                f"{change.mean():+.2f} ± {half:.2f}",
            )
        seconds = {name: [] for name in runs}
        for image in test[: options.rounds]:
            for name, run in runs.items():
                start = time.perf_counter()
                run(image[None])
                seconds[name].append(time.perf_counter() - start)
    first = next(iter(runs))
    begin_table(
        "Exported files",
        "file",
        "MB",
        "largest difference of a cosine",
        "accuracy beside Keras, points",
        f"time beside {first}",
    )
    for name, row in rows.items():
        pairs = zip(seconds[name], seconds[first], strict=True)
        ratio = statistics.median(own / other for own, other in pairs)
        print_row(name, *row, f"{ratio:.2f}")
    print(
        f"\n{first}: {1000 * statistics.median(seconds[first]):.0f} ms a photo"
    )


if __name__ == "__main__":
    main()
