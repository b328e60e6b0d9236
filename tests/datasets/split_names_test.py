import pytest

from keras_finegrain.datasets.split_names import role

pytestmark = pytest.mark.one_backend

NAMES = {
    "train": "train Training TRAIN trainset train_images cars_train "
    "train-set train2017 TrainImages 01_train trainval",
    "test": "test Testing testset test_images cars_test TestImages test2017",
    "validation": "val valid Validation dev eval evaluation holdout hold_out "
    "held-out valset val2017 ValImages",
    None: "trainer tester contest protest valley devil evaluator mini extra "
    "restrain validator latest",
}


@pytest.mark.parametrize("wanted", NAMES)
def test_the_usual_names_in_any_case_are_known_and_no_others(wanted):
    for name in NAMES[wanted].split():
        assert role(name) == wanted, name
