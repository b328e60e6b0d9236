"""How far replicas are from one device, for every layer.

    python benchmarks/replica_parity.py > docs/distribution_parity.md

trains each layer ten steps on the same global batches, on one device and on
several, with and without XLA, several steps in one execution, an uneven last
batch and a synchronised normalisation before the layer. Logical devices of
the CPU and processes on this machine stand in for others. Prints the page of
the documentation, with a table for each distribution: the largest difference
in loss, weights and centers, relative to 1 + |value|. Where Keras cannot run
a cell at all, a model without a layer of ours shows it in the row "Keras
alone".

    python benchmarks/replica_parity.py --gpus 2

compares one GPU with two, on the backend of KERAS_BACKEND; on TensorFlow a
single GPU is split into logical ones.
"""

import argparse
import contextlib
import importlib.metadata
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile

# Name, backend, devices, processes.
DISTRIBUTIONS = (
    ("MirroredStrategy, 2 devices", "tensorflow", 2, 1),
    ("MirroredStrategy, 4 devices", "tensorflow", 4, 1),
    ("MultiWorkerMirroredStrategy, 2 processes", "tensorflow", 1, 2),
    ("JAX DataParallel, 4 devices", "jax", 4, 1),
    ("JAX DataParallel, 2 processes", "jax", 1, 2),
)
LAYERS = (
    "CenterLoss",
    "CenterLoss, trained centers",
    "MCLoss",
    "SoftTriple",
    "CosineSimilarity, ArcFaceLoss",
    "CosineSimilarity, ProxyAnchorLoss",
    "TripletAllLoss",
    "Keras alone",
)
MODES = {
    "tensorflow": ("graph", "jit_compile", "steps_per_execution 4"),
    # JAX compiles every step.
    "jax": ("jit_compile", "steps_per_execution 4"),
}
PACKAGES = {"Keras": "keras", "TensorFlow": "tensorflow", "JAX": "jax"}
BATCH, STEPS, CLASSES = 16, 10, 5
PAGE = """\
# Several devices beside one, in numbers

Made by `python benchmarks/replica_parity.py`, with {versions}. [Several
devices](distribution.md) says what to do; this page shows how exact it is.

Each layer is trained for ten steps on the same global batches, on one device
and on several. A cell is the largest difference in loss, weights and centers,
relative to 1 + |value|: 1e-7 is the rounding of float32. Logical devices of a
CPU, and processes on one machine, stand in for others.

- *graph*, *jit_compile*, *steps_per_execution 4*: how `compile` is told to run
  the step. JAX always compiles it.
- *even*, *uneven*: the last batch is full, or leaves the replicas shares of
  different length.
- *normalised*: with `BatchNormalization` before the layer, which on TensorFlow
  is `synchronized=True`.
- *Keras alone* is a plain Keras model without a layer of ours. Where Keras
  cannot run a cell at all it shows the same error. Its larger differences on
  an uneven last batch are Keras's own: it averages a compiled loss replica by
  replica, ours are means over the global batch.
- *the process died*: TensorFlow says before it does that collectives are not
  implemented for CPU devices under XLA.

Losses without a row of their own share their code with one that has: all
cross-entropies with ArcFace, all losses on pairs with the triplets.
"""
UNEQUAL_SHARES = "not run: Keras needs shares of one length on JAX"


def build(layer: str, normalize: bool, synchronized: bool):
    """The layer in a small model, and the loss to compile."""
    import keras

    import keras_finegrain

    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(11, 3, activation="relu")(image)
    if normalize:
        x = keras.layers.BatchNormalization(synchronized=synchronized)(x)
    if layer == "MCLoss":
        x = keras_finegrain.MCLoss(CLASSES, loss_weight=0.1, seed=3)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(6)(x)
    if layer == "SoftTriple":
        x = keras_finegrain.SoftTriple(CLASSES, 3)(x)
        loss = keras_finegrain.losses.SoftTripleLoss()
        return keras_finegrain.Model(image, x), loss
    if layer == "TripletAllLoss":
        return keras_finegrain.Model(
            image, keras.layers.UnitNormalization()(x)
        ), keras_finegrain.losses.TripletAllLoss()
    if layer.startswith("CosineSimilarity"):
        x = keras_finegrain.CosineSimilarity(CLASSES)(x)
        loss = getattr(keras_finegrain.losses, layer.split(", ")[1])()
        return keras_finegrain.Model(image, x), loss
    if layer == "Keras alone":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return keras.Model(image, keras.layers.Dense(CLASSES)(x)), loss
    if layer != "MCLoss":
        trained = layer.endswith("trained centers")
        x = keras_finegrain.CenterLoss(
            CLASSES,
            loss_weight=0.1,
            update="gradient" if trained else "moving_average",
        )(x)
    # Of these layers the add_loss alone: Keras weighs the replicas' shares of
    # a compiled loss alike, however long they are.
    return keras_finegrain.Model(image, keras.layers.Dense(CLASSES)(x)), None


def compile_model(model, loss, mode: str) -> None:
    """Compiles it with first weights that do not depend on the process."""
    import keras
    import numpy as np

    generator = np.random.default_rng(5)
    for variable in model.weights:
        value = generator.normal(scale=0.3, size=variable.shape)
        if variable.path.endswith(("gamma", "variance")):
            value = 1.0 + np.square(value)
        variable.assign(value)
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9),
        loss,
        jit_compile=mode == "jit_compile" or keras.backend.backend() == "jax",
        steps_per_execution=4 if mode.startswith("steps") else 1,
    )


def train(model, ragged: bool, worker: int, workers: int):
    """Ten steps; loss and every variable, by name."""
    import keras
    import numpy as np

    generator = np.random.default_rng(11)
    count = BATCH * STEPS - (7 if ragged else 0)
    images = generator.normal(size=(count, 6, 6, 3)).astype("float32")
    labels = generator.integers(0, CLASSES, count).astype("int32")
    batch = BATCH
    if keras.backend.backend() == "jax":
        # Each process is given its own share of a batch.
        images, labels = images[worker::workers], labels[worker::workers]
        batch //= workers
    history = model.fit(
        images, labels, batch_size=batch, shuffle=False, verbose=0
    ).history
    values = {"loss": history["loss"]}
    for index, variable in enumerate(model.weights):
        value = keras.ops.convert_to_numpy(variable)
        values[f"{index} {variable.path}"] = value.ravel().tolist()
    return values


def run_all(devices: int, mode: str, output: str) -> None:
    """Every cell of one distribution and mode, in this process."""
    import keras

    backend = keras.backend.backend()
    worker = int(os.environ.get("KERAS_DISTRIBUTION_PROCESS_ID", "0"))
    workers = int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1"))
    compute_in_float32(backend)
    scope = distribution_scope(backend, devices, workers)
    cells = {}
    for layer in LAYERS:
        for ragged in (False, True):
            for normalize in (False, True):
                key = f"{layer}|{ragged}|{normalize}|{mode}"
                if ragged and workers > 1 and backend == "jax":
                    # Shares of unequal length have no global shape.
                    cells[key] = {"error": UNEQUAL_SHARES}
                    continue
                keras.utils.set_random_seed(1)
                try:
                    with scope():
                        model, loss = build(
                            layer, normalize, backend == "tensorflow"
                        )
                        compile_model(model, loss, mode)
                    cells[key] = train(model, ragged, worker, workers)
                except Exception as error:  # Keras's, of any kind
                    cells[key] = {"error": summary(error)}
    with open(output, "w") as file:
        json.dump(cells, file)


def distribution_scope(backend: str, devices: int, workers: int):
    """What opens the scope to build in."""
    import keras

    if backend == "jax":
        if workers > 1:
            import jax

            jax.config.update("jax_cpu_collectives_implementation", "gloo")
            keras.distribution.initialize()
        if devices * workers > 1:
            keras.distribution.set_distribution(
                keras.distribution.DataParallel(auto_shard_dataset=False)
            )
        return contextlib.nullcontext
    import tensorflow as tf

    if workers > 1:
        return tf.distribute.MultiWorkerMirroredStrategy().scope
    if devices == 1:
        return contextlib.nullcontext
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    physical = tf.config.list_physical_devices(kind)
    if len(physical) < devices:
        memory = 4096 if kind == "GPU" else None
        tf.config.set_logical_device_configuration(
            physical[0],
            [tf.config.LogicalDeviceConfiguration(memory)] * devices,
        )
    return tf.distribute.MirroredStrategy(
        [f"{kind}:{index}" for index in range(devices)]
    ).scope


def compute_in_float32(backend: str) -> None:
    """GPUs multiply in TF32 unless told otherwise: 1e-3 of rounding."""
    if backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    else:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)


def summary(error: Exception) -> str:
    """What an error says, without the places that it came by."""
    places = ("File ", "Detected ", "Graph execution", "[[", "0 ")
    lines: list[str] = []
    for line in str(error).splitlines():
        # Each replica repeats what the first one says.
        line = re.sub(r"^\(\d+\) [A-Z_]+:", "", line.strip()).strip()
        counts = line.endswith("root error(s) found.")
        if line and not counts and not line.startswith(places):
            lines.append(line)
    text = " ".join(dict.fromkeys(lines))
    text = re.sub(r" \(defined @ [^)]*\)| \[Op:.*| Cf\. .*", "", text)
    # The same error has the same text in every cell.
    text = re.sub(r"[^\s'(),\[\]]*\d[^\s'(),\[\]]*", "…", text)
    if len(text) > 240:
        text = f"{text[:100]} […] {text[-140:]}"
    return f"{type(error).__name__}: {text}"


def in_processes(backend: str, devices: int, processes: int) -> dict:
    """The cells of one distribution; processes of its own for each mode."""
    cells = {}
    for mode in MODES[backend]:
        cells |= one_mode(backend, devices, processes, mode)
    return cells


def one_mode(backend: str, devices: int, processes: int, mode: str) -> dict:
    """Starts the processes of one mode; the first one's cells."""
    addresses = [f"localhost:{port}" for port in free_ports(processes)]
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for index in range(processes):
            flags = f"--xla_force_host_platform_device_count={devices}"
            environment = {
                **os.environ,
                "KERAS_BACKEND": backend,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "XLA_FLAGS": flags,
            }
            if processes > 1:
                task = {"type": "worker", "index": index}
                environment |= {
                    "TF_CONFIG": json.dumps(
                        {"cluster": {"worker": addresses}, "task": task}
                    ),
                    "KERAS_DISTRIBUTION_JOB_ADDRESSES": ",".join(addresses),
                    "KERAS_DISTRIBUTION_NUM_PROCESSES": str(processes),
                    "KERAS_DISTRIBUTION_PROCESS_ID": str(index),
                }
            output = os.path.join(folder, f"{index}.json")
            command = [sys.executable, __file__, "--devices", str(devices)]
            command += ["--mode", mode]
            started.append(
                subprocess.Popen(
                    [*command, output],
                    env=environment,
                    # Gloo says whom it is connected to.
                    stdout=sys.stderr,
                )
            )
        statuses = [process.wait() for process in started]
        if any(statuses):
            # What it said stands above; every cell of the mode says so.
            return {}
        with open(os.path.join(folder, "0.json")) as file:
            return json.load(file)


def free_ports(count: int) -> list[int]:
    """Ports on this machine that nobody listens to."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


def difference(cell: dict, reference: dict) -> float:
    """The largest one, relative to 1 + |value|."""
    return max(
        abs(own - other) / (1 + abs(other))
        for own_values, values in zip(
            cell.values(), reference.values(), strict=True
        )
        for own, other in zip(own_values, values, strict=True)
    )


def print_table(name: str, backend: str, cells: dict, one: dict) -> None:
    """One distribution's table, and what its errors say.

    A column in which no layer ran becomes a sentence.
    """
    print(f"\n## {name}\n")
    errors: list[str] = []
    columns: dict[str, list[str]] = {}
    failed: dict[str, list[str]] = {}
    for mode in MODES[backend]:
        for ragged, normalize in itertools.product((False, True), repeat=2):
            shown = []
            for layer in LAYERS:
                key = f"{layer}|{ragged}|{normalize}|{mode}"
                cell = cells.get(key, {"error": "the process died"})
                if text := cell.get("error"):
                    if text not in errors:
                        errors.append(text)
                    shown.append(f"error {errors.index(text) + 1}")
                else:
                    shown.append(f"{difference(cell, one[key]):.1e}")
            case = "uneven" if ragged else "even"
            if normalize:
                case += ", normalised"
            if all(cell.startswith("error") for cell in shown):
                which = ", ".join(dict.fromkeys(shown))
                failed.setdefault(f"{mode}: {which}", []).append(case)
            else:
                columns[f"{mode}, {case}"] = shown
    if columns:
        print(f"| layer | {' | '.join(columns)} |")
        print("|---|" + "---:|" * len(columns))
        for layer, *row in zip(LAYERS, *columns.values(), strict=True):
            print(f"| {layer} | {' | '.join(row)} |")
        print()
    for what, cases in failed.items():
        which = "" if len(cases) == 4 else f" ({'; '.join(cases)})"
        print(f"- No row ran with {what}{which}.")
    for number, text in enumerate(errors, start=1):
        print(f"- Error {number}: `{text}`")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, help="compare one with so many")
    parser.add_argument("--devices", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    parser.add_argument("output", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.output:
        run_all(options.devices, options.mode, options.output)
        return
    distributions = DISTRIBUTIONS
    if options.gpus:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        name = f"{backend}, {options.gpus} GPUs"
        distributions = ((name, backend, options.gpus, 1),)
    else:
        versions = ", ".join(
            f"{name} {importlib.metadata.version(package)}"
            for name, package in PACKAGES.items()
        )
        print(PAGE.format(versions=versions), end="")
    one_device: dict[str, dict] = {}
    for name, backend, devices, processes in distributions:
        if backend not in one_device:
            one_device[backend] = in_processes(backend, 1, 1)
        cells = in_processes(backend, devices, processes)
        print_table(name, backend, cells, one_device[backend])


if __name__ == "__main__":
    main()
