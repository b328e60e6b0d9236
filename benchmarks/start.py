"""How long it takes to import the package, and to the first step.

    python benchmarks/start.py --backbone MobileNetV2

starts a new process for each measurement, in turns. The first table has
`import keras_finegrain` against `import keras` alone; the second what comes
then, with a layer against without: building and compiling a model with that
backbone, or with one convolution, and its first training step, which traces
and compiles.

Measured is CPU time: it is what a process waits for here, and other programs
change it less.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import turns
from printed_tables import begin_table, print_row

BATCH, SIDE, CHANNELS, CLASSES = 16, 7, 256, 50
# Of pictures for a backbone: their step takes little beside its compilation.
PICTURES, PIXELS = 2, 96
LAYERS = ("none", "CenterLoss", "MCLoss", "SoftTriple")


def seconds_to_import(module: str) -> list[float]:
    """Imports Keras, and a module of ours, in this process."""
    started = time.process_time()
    __import__(module)
    return [time.process_time() - started]


def seconds_to_first_step(
    layer: str, jit_compile: bool, backbone: str | None
) -> list[float]:
    """Builds a model and trains it for one step in this process.

    Returns:
        Of both, of the building, and of the step.
    """
    import keras
    import numpy as np
    from heads import head

    import keras_finegrain

    shape = (BATCH, SIDE, SIDE, CHANNELS)
    if backbone:
        shape = (PICTURES, PIXELS, PIXELS, 3)
    x = np.ones(shape, "float32")
    y = np.arange(len(x)) % CLASSES
    # What a backend does once, whatever is built with it.
    keras.ops.convert_to_numpy(keras.ops.matmul(np.eye(2), np.eye(2)))
    started = time.process_time()
    inputs = keras.Input(x.shape[1:])
    if backbone:
        feature_map = getattr(keras.applications, backbone)(
            include_top=False, weights=None, input_tensor=inputs
        ).output
    else:
        feature_map = keras.layers.Conv2D(CHANNELS, 1)(inputs)
    outputs, loss = head(layer, feature_map, CLASSES)
    model = keras_finegrain.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=jit_compile)
    built = time.process_time()
    model.fit(x, y, batch_size=len(x), verbose=0)
    ended = time.process_time()
    return [ended - started, built - started, ended - built]


def in_a_process(backend: str, function: str, **options: Any) -> list[float]:
    """What a function of this module returns in a new process."""
    result = subprocess.run(
        [sys.executable, __file__, "--call", function, json.dumps(options)],
        env=turns.environment(backend),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def compared(
    title: str, rows: dict[str, Any], rounds: int, stages: Sequence[str]
) -> None:
    """Prints a table of functions that each measure the same stages once."""
    timings = {name: [turns.Timing([]) for _ in stages] for name in rows}
    for _ in range(rounds):
        for name, measure in rows.items():
            for timing, seconds in zip(timings[name], measure(), strict=True):
                timing.seconds.append(seconds)
    references = next(iter(timings.values()))
    columns = [column for stage in stages for column in (stage, "range")]
    begin_table(title, "", *columns)
    for name, own in timings.items():
        ratios = map(turns.ratio, own, references)
        print_row(name, *map(str, ratios))


def main() -> None:
    options = turns.parser(__doc__)
    options.add_argument("--backbone", help="of keras.applications")
    options.add_argument(
        "--layers",
        nargs="+",
        choices=LAYERS[1:],
        default=LAYERS[1:],
        help="those beside the model without one",
    )
    options.add_argument("--call", nargs=2, help="of this script by itself")
    given = options.parse_args()
    if given.call:
        function, arguments = given.call
        print(json.dumps(globals()[function](**json.loads(arguments))))
        return
    forms = turns.forms(given.backends)
    if given.tiny:
        forms, given.layers = forms[:1], given.layers[:1]
    for backend in dict.fromkeys(form.backend for form in forms):
        # Its files are in the system's cache then.
        in_a_process(backend, "seconds_to_import", module="keras_finegrain")
        compared(
            f"Import, {backend}",
            {
                f"import {module}": lambda module=module, backend=backend: (
                    in_a_process(backend, "seconds_to_import", module=module)
                )
                for module in ("keras", "keras_finegrain")
            },
            given.rounds,
            ["ratio"],
        )
    for form in forms:
        compared(
            f"First step, {form.name}",
            {
                layer: lambda layer=layer, form=form: in_a_process(
                    form.backend,
                    "seconds_to_first_step",
                    layer=layer,
                    jit_compile=form.jit_compile,
                    backbone=given.backbone,
                )
                for layer in (LAYERS[0], *given.layers)
            },
            given.rounds,
            ["both", "building", "first step"],
        )


if __name__ == "__main__":
    main()
