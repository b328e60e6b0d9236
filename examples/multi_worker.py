"""Train on several machines: the same script on each, with its own TF_CONFIG.

    python examples/multi_worker.py --local-workers 2

starts two workers on this machine. On several machines, start each worker with
its TF_CONFIG; docs/distribution.md shows it on two hosts.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys

# Before the first import of TensorFlow, Keras's only backend with TF_CONFIG.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> int:
    """Runs one worker, or starts several; returns the exit status."""
    options = parse_arguments()
    if "TF_CONFIG" in os.environ:
        train(options)
        return 0
    if options.local_workers:
        return start_workers(options.local_workers)
    print(
        "multi_worker.py: error: TF_CONFIG is not set; set it to start one "
        "worker of several, or pass --local-workers 2",
        file=sys.stderr,
    )
    return 2


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--local-workers", type=int, metavar="N", help="start N"
    )
    parser.add_argument("--dataset", default="synthetic_birds")
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument(
        "--batch-size", type=int, default=32, help="over all workers"
    )
    parser.add_argument("--output", default="runs/multi_worker")
    return parser.parse_args()


def train(options: argparse.Namespace) -> None:
    """Runs one worker; all workers synchronize in every step."""
    import tensorflow as tf

    # First, because it connects the workers.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    import keras

    from keras_finegrain import datasets

    worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    data = datasets.load(options.dataset, data_dir=options.data_dir)
    images = {"image_size": 64, "batch_size": options.batch_size}
    keras.utils.set_random_seed(0)  # The same first weights on all workers.
    with strategy.scope():
        model = build(data.num_classes)
    output = pathlib.Path(options.output)
    model.fit(
        datasets.batches(data.train, **images, training=True),
        validation_data=datasets.batches(data.test, **images, training=False),
        epochs=options.epochs,
        shuffle=False,  # The batches are shuffled already.
        verbose=2 if worker == 0 else 0,
        callbacks=[
            # If one worker dies and all are started again, each continues
            # after its last finished epoch, from a file of its own.
            keras.callbacks.BackupAndRestore(output / f"backup_{worker}")
        ],
    )
    if worker == 0:
        model.save(output / "model.keras")
        print(f"{output / 'model.keras'}: the trained model")


def build(num_classes: int):
    """A small classifier with center loss, compiled."""
    import keras

    import keras_finegrain

    model = keras_finegrain.Sequential([keras.Input((64, 64, 3))])
    model.add(keras.layers.Rescaling(1 / 127.5, offset=-1))
    for filters in (16, 32, 96, 192):
        model.add(keras.layers.Conv2D(filters, 3, 2, padding="same"))
        # Statistics of the batch of all workers, not of each worker's share.
        model.add(keras.layers.BatchNormalization(synchronized=True))
        model.add(keras.layers.ReLU())
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras_finegrain.CenterLoss(num_classes))
    model.add(keras.layers.Dense(num_classes))
    model.compile(
        keras.optimizers.AdamW(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def start_workers(count: int) -> int:
    """Starts this script once for each worker on this machine."""
    addresses = [f"localhost:{port}" for port in free_ports(count)]
    workers = [
        subprocess.Popen(
            [sys.executable, *sys.argv],
            env={
                **os.environ,
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": index},
                    }
                ),
            },
        )
        for index in range(count)
    ]
    try:
        # If one fails, the others wait for it forever.
        while all(worker.poll() is None for worker in workers):
            try:
                workers[0].wait(timeout=1)
            except subprocess.TimeoutExpired:
                continue
        if any(worker.poll() for worker in workers):
            return 1
        return int(any(worker.wait() for worker in workers))
    finally:
        for worker in workers:
            worker.kill()


def free_ports(count: int) -> list[int]:
    """Free ports of this machine."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    sys.exit(main())
