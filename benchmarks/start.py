"""How long it takes to import the package, and to the first step.

    python benchmarks/start.py

starts a new process for each measurement, in turns. The first table has
`import keras_finegrain` against `import keras` alone; the second the time from
the building of a small model to the end of its first training step, tracing
and compiling included, with a layer against without.
"""

import json
import subprocess
import sys
import time
from typing import Any

import turns

BATCH, SIDE, CHANNELS, CLASSES = 16, 7, 256, 50
LAYERS = ("none", "CenterLoss", "MCLoss", "SoftTriple")


def seconds_to_import(module: str) -> float:
    """Imports Keras, and a module of ours, in this process."""
    started = time.perf_counter()
    __import__(module)
    return time.perf_counter() - started


def seconds_to_first_step(layer: str, jit_compile: bool) -> float:
    """Builds a model and trains it for one step in this process."""
    import keras
    import numpy as np
    from heads import head

    import keras_finegrain

    x = np.ones((BATCH, SIDE, SIDE, CHANNELS), "float32")
    y = np.arange(BATCH) % CLASSES
    # What a backend does once, whatever is built with it.
    keras.ops.convert_to_numpy(keras.ops.matmul(np.eye(2), np.eye(2)))
    started = time.perf_counter()
    inputs = keras.Input(x.shape[1:])
    feature_map = keras.layers.Conv2D(CHANNELS, 1)(inputs)
    outputs, loss = head(layer, feature_map, CLASSES)
    model = keras_finegrain.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=jit_compile)
    model.fit(x, y, batch_size=BATCH, verbose=0)
    return time.perf_counter() - started


def in_a_process(backend: str, function: str, **options: Any) -> float:
    """What a function of this module returns in a new process."""
    result = subprocess.run(
        [sys.executable, __file__, "--call", function, json.dumps(options)],
        env=turns.environment(backend),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return float(result.stdout.splitlines()[-1])


def compared(title: str, rows: dict[str, Any], rounds: int) -> None:
    """Prints a table of functions that each measure once."""
    timings = {name: turns.Timing([]) for name in rows}
    for _ in range(rounds):
        for name, measure in rows.items():
            timings[name].seconds.append(measure())
    reference = next(iter(timings.values()))
    print(f"\n{title}\n\n| | ratio | range |\n|---|---:|---:|")
    for name, timing in timings.items():
        print(f"| {name} | {turns.ratio(timing, reference)} |", flush=True)


def main() -> None:
    options = turns.parser(__doc__)
    options.add_argument("--call", nargs=2, help="of this script by itself")
    given = options.parse_args()
    if given.call:
        function, arguments = given.call
        print(globals()[function](**json.loads(arguments)))
        return
    forms = turns.forms(given.backends)
    if given.tiny:
        forms = forms[:1]
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
                )
                for layer in (LAYERS[:2] if given.tiny else LAYERS)
            },
            given.rounds,
        )


if __name__ == "__main__":
    main()
