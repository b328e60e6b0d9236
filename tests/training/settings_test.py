import dataclasses
import math

import pytest

from keras_finegrain.training import Settings, TrainingError

POSITIVE = ("lr", "head_lr_multiplier", "soft_triple_gamma")
NOT_NEGATIVE = (
    *("mixup", "label_smoothing", "ema_momentum", "weight_decay"),
    *("center_weight", "soft_triple_margin"),
)
INTEGERS = (
    *("image_size", "views", "epochs", "batch_size", "steps_per_execution"),
    *("images_per_class", "sub_centers", "embedding_size"),
)


@pytest.mark.parametrize(
    "name", ["augment", "pooling", "optimizer", "mixed_precision"]
)
def test_a_choice_of_no_such_name_is_not_another_one(name):
    option = name.replace("_", "-")
    with pytest.raises(TrainingError, match=f"--{option}: .* received 'no'"):
        Settings(**{name: "no"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in INTEGERS for value in (0, -1, 2.5, "3")),
        *((name, value) for name in POSITIVE for value in (0, -1.0, "3")),
        *((name, value) for name in NOT_NEGATIVE for value in (-0.1, None)),
        *((name, math.nan) for name in (*POSITIVE, *NOT_NEGATIVE)),
        ("images_per_class", 1),
        ("epochs", True),
        ("lr", math.inf),
        ("color", 1.0),
        ("label_smoothing", 1.0),
        ("ema_momentum", 1),
        ("center_alpha", 1.1),
    ],
)
def test_a_number_out_of_its_range_is_not_trained_with(name, value):
    option = name.replace("_", "-")
    with pytest.raises(TrainingError) as error:
        Settings(**{name: value})
    message = str(error.value)
    assert message.startswith(f"--{option}: {name} must be ")
    assert message.endswith(f"received {value!r}.")


def test_the_ends_of_a_range_belong_to_it():
    for name in NOT_NEGATIVE:
        assert getattr(Settings(**{name: 0}), name) == 0
    settings = Settings(center_alpha=1, color=0, images_per_class=2, epochs=1)
    assert dataclasses.replace(settings, embedding_size=1).center_alpha == 1
