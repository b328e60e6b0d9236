"""What a layer adds to a training step of a real backbone.

    python benchmarks/real_step.py --backbone MobileNetV2 --batch 32

trains a network of `keras.applications` on one batch of pictures of 224 by 224
pixels, all of its layers, and prints how long a step takes with each layer
against one without: a plain Dense head behind average pooling. SoftTriple
stands in the place of that head.

A percent is less than what two runs of one thing differ by, so that the plain
model stands in the table twice. Below it stands what each layer takes by
itself on a feature map of the same size, forward, backward and update, as a
share of the plain step: that is what can be told apart. It holds the step's
own overhead too, which a layer in a larger model does not add.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import turns

LAYERS = ("CenterLoss", "MCLoss", "SoftTriple")


def step_of(
    backbone: str,
    batch: int,
    side: int,
    classes: int,
    layer: str,
    alone: bool,
    jit_compile: bool,
) -> Callable[[], Any]:
    """A training step with one of the layers, or with none."""
    import keras
    from bias import Bias
    from heads import head
    from training_step import training_step

    import keras_finegrain

    generator = np.random.default_rng(0)
    y = generator.integers(0, classes, batch).astype("int32")
    network = getattr(keras.applications, backbone)(
        include_top=False, weights=None, input_shape=(side, side, 3)
    )
    inputs, feature_map = network.input, network.output
    if alone:
        inputs = keras.Input(feature_map.shape[1:])
        feature_map = Bias()(inputs)
    x = generator.normal(size=(batch, *inputs.shape[1:])).astype("float32")
    if alone and layer == "MCLoss":
        outputs = keras_finegrain.MCLoss(classes, seed=0)(feature_map)
        loss = None
    elif alone and layer == "CenterLoss":
        outputs = keras.layers.GlobalAveragePooling2D()(feature_map)
        outputs = keras_finegrain.CenterLoss(classes)(outputs)
        loss = None
    else:
        outputs, loss = head(layer, feature_map, classes)
    model = keras_finegrain.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(1e-3), loss, jit_compile=jit_compile)
    return training_step(model, x, y)


def main() -> None:
    options = turns.parser(__doc__)
    options.add_argument("--backbone", default="MobileNetV2")
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--side", type=int, default=224)
    options.add_argument("--classes", type=int, default=200)
    given = options.parse_args()
    if given.tiny:
        given.batch, given.side, given.classes = 2, 64, 3
        given.backbone = "MobileNet"
    size = {
        "backbone": given.backbone,
        "batch": given.batch,
        "side": given.side,
        "classes": given.classes,
    }
    print(
        f"{given.backbone}, {given.batch} pictures of {given.side} × "
        f"{given.side}, {given.classes} classes"
    )
    forms = turns.forms(given.backends)
    for form in forms[:1] if given.tiny else forms:

        def case(name, layer, alone=False, form=form):
            return form.case(name, step_of, layer=layer, alone=alone, **size)

        cases = [case("plain", "none"), case("plain again", "none")]
        cases += [case(f"with {layer}", layer) for layer in LAYERS]
        cases += [case("pooling and Dense, alone", "none", alone=True)]
        cases += [
            case(f"{layer}, alone", layer, alone=True) for layer in LAYERS
        ]
        timings = turns.in_turns(cases, given.rounds, given.tiny)
        turns.print_table(form.name, cases, timings)


if __name__ == "__main__":
    main()
