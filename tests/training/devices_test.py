import keras
import pytest

from keras_finegrain.training import TrainingError
from keras_finegrain.training.devices import (
    check_last_batches,
    prepare_devices,
)

BACKEND = keras.backend.backend()


@pytest.mark.skipif(
    BACKEND != "jax", reason="only JAX has to divide every batch by the devices"
)
def test_a_last_batch_that_devices_cannot_share_is_found_first():
    check_last_batches(1, 32, 64, 35)
    check_last_batches(3, 32, 64, 35)
    with pytest.raises(
        TrainingError, match=r"35 test images leave .* 3 .* 2 dev"
    ):
        check_last_batches(2, 32, 64, 35)
    with pytest.raises(TrainingError, match=r"65 train images leave .* 1 "):
        check_last_batches(2, 32, 65, 64)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has to divide every batch")
def test_other_backends_share_any_last_batch():
    check_last_batches(2, 32, 65, 35)


@pytest.mark.parametrize("distribute", ["none", "auto"])
def test_one_device_needs_no_distribution(distribute):
    replicas, scope = prepare_devices(distribute, batch_size=7, xla=False)
    if replicas > 1:
        pytest.skip("this machine has several devices")
    with scope():
        assert keras.distribution.distribution() is None


@pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch alone")
@pytest.mark.parametrize(
    ("distribute", "xla", "message"),
    [
        ("none", True, "--xla: PyTorch has none"),
        ("mirrored", False, "--distribute mirrored: .*KERAS_BACKEND="),
    ],
)
def test_what_pytorch_has_not_is_refused(distribute, xla, message):
    with pytest.raises(TrainingError, match=message):
        prepare_devices(distribute, batch_size=8, xla=xla)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow alone")
def test_tensorflow_compiles_no_distributed_step():
    with pytest.raises(TrainingError, match="--xla does not go with --distri"):
        prepare_devices("mirrored", batch_size=8, xla=True)
