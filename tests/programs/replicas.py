"""Trains each scenario on a number of replicas and saves what came out.

python -m tests.programs.replicas REPLICAS OUTPUT.npz [SCENARIO ...]

With TensorFlow the replicas are logical CPUs under MirroredStrategy, with JAX
host devices under keras.distribution.DataParallel, with PyTorch there are
workers alone: the processes of torch.distributed. One replica is a plain
process without any strategy: what the others are compared with. Where the
environment names several workers, this process is one of them.
"""

import os
import sys

REPLICAS = int(sys.argv[1])
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Where a ragged batch leaves a replica without a sample, oneDNN's convolution
# gives it the shape of its input, and a plain Keras model fails as well.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={max(REPLICAS, 1)}"
)

import contextlib  # noqa: E402

import keras  # noqa: E402

WORKERS = int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1"))
WORKER = int(os.environ.get("KERAS_DISTRIBUTION_PROCESS_ID", "0"))

if keras.backend.backend() == "jax":
    import jax

    jax.config.update("jax_enable_x64", True)
    if WORKERS > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize()

if keras.backend.backend() == "torch" and WORKERS > 1:
    import torch

    addresses = os.environ["KERAS_DISTRIBUTION_JOB_ADDRESSES"].split(",")
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"tcp://{addresses[0]}",
        rank=WORKER,
        world_size=WORKERS,
    )

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from keras import ops  # noqa: E402

import keras_finegrain  # noqa: E402
from keras_finegrain._base.private_keras import trains_on_ranks  # noqa: E402

CLASSES = 5
BATCH = 16


def scope_maker():
    """What opens the scope to build and compile in."""
    if REPLICAS * WORKERS == 1:
        return contextlib.nullcontext
    if keras.backend.backend() == "jax":
        return data_parallel
    if keras.backend.backend() == "torch":
        return contextlib.nullcontext
    import tensorflow as tf

    if WORKERS > 1:
        return tf.distribute.MultiWorkerMirroredStrategy().scope
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * REPLICAS
    )
    return tf.distribute.MirroredStrategy(
        [f"CPU:{index}" for index in range(REPLICAS)]
    ).scope


def data_parallel():
    """Sets the distribution, which Keras forgets with the session."""
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    return contextlib.nullcontext()


def data(count):
    generator = np.random.default_rng(11)
    images = generator.normal(size=(count, 6, 6, 3)).astype("float32")
    return images, generator.integers(0, CLASSES, count).astype("int32")


def normalization():
    # On JAX a layer sees the whole batch anyway, and Keras has no such option.
    synchronized = keras.backend.backend() == "tensorflow"
    return keras.layers.BatchNormalization(synchronized=synchronized)


def full(loss=True, normalize=True, **center):
    """Two loss layers and SoftTriple, with normalisation on either side."""
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(11, 3, activation="relu")(image)
    x = normalization()(x) if normalize else x
    x = keras_finegrain.MCLoss(CLASSES, loss_weight=0.1, seed=3)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = normalization()(x) if normalize else x
    x = keras.layers.Dense(6)(x)
    x = keras_finegrain.CenterLoss(CLASSES, loss_weight=0.1, **center)(x)
    x = normalization()(x) if normalize else x
    x = keras_finegrain.SoftTriple(CLASSES, 3)(x)
    return keras_finegrain.Model(image, x), loss


def keras_alone():
    """What Keras itself differs by: none of our layers is in it."""
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(11, 3, activation="relu")(image)
    x = normalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = normalization()(x)
    x = keras.layers.Dense(6)(x)
    x = normalization()(x)
    return keras_finegrain.Model(image, keras.layers.Dense(CLASSES)(x)), True


def two_centers():
    """Two layers of one kind, one of them with explicit labels."""
    image = keras.Input((6, 6, 3), name="image")
    label = keras.Input((), dtype="int32", name="label")
    x = keras.layers.Dense(6)(keras.layers.Flatten()(image))
    x = keras_finegrain.CenterLoss(CLASSES, 0.1, name="scope")(x)
    x = normalization()(x)
    x = keras_finegrain.CenterLoss(
        CLASSES, 0.2, name="explicit", reduction="sum", ignore_class=2
    )(x, label)
    x = keras.layers.Dense(CLASSES)(x)
    return keras_finegrain.Model({"image": image, "label": label}, x), True


def sampled_classes():
    """Every replica scores the same share of the classes."""
    image = keras.Input((6, 6, 3))
    x = keras.layers.Dense(6)(keras.layers.Flatten()(image))
    head = keras_finegrain.SoftTriple(40, 3, sampled_share=0.5, seed=3)
    return keras_finegrain.Model(image, head(x)), True


def batch_loss(loss, *head):
    """A loss that compares the samples of the global batch."""
    image = keras.Input((6, 6, 3))
    x = keras.layers.Dense(6)(keras.layers.Flatten()(image))
    for layer in head:
        x = layer(x)
    return keras_finegrain.Model(image, x), loss


# What is built, the number of images, and the precision. In float64 the order
# of a sum is of no importance, however a network magnifies it: those scenarios
# are held to a much smaller difference on TensorFlow. (Keras's normalisation
# computes float64 in float32 on JAX.)
SCENARIOS = {
    "keras_alone": (keras_alone, 3 * BATCH, "float32"),
    "all_layers": (full, 3 * BATCH, "float32"),
    "all_layers_float64": (full, 3 * BATCH, "float64"),
    "sampled_classes": (sampled_classes, 3 * BATCH, "float32"),
    "two_center_losses": (two_centers, 3 * BATCH, "float32"),
    "trained_centers_float64": (
        lambda: full(update="gradient"),
        3 * BATCH,
        "float64",
    ),
    "triplets": (
        lambda: batch_loss(keras_finegrain.losses.TripletAllLoss()),
        3 * BATCH,
        "float32",
    ),
    "triplets_ragged": (
        lambda: batch_loss(
            keras_finegrain.losses.TripletHardLoss(soft=True, reduction="sum")
        ),
        2 * BATCH + 9,
        "float32",
    ),
    "soft_triple_ragged": (
        lambda: full(True, normalize=False),
        2 * BATCH + 9,
        "float32",
    ),
    "memory_ragged": (
        lambda: batch_loss(
            None,
            keras_finegrain.layers.CrossBatchMemory(
                keras_finegrain.losses.TripletAllLoss(), 40
            ),
        ),
        2 * BATCH + 9,
        "float32",
    ),
    "n_pairs": (
        lambda: batch_loss(keras_finegrain.losses.NPairsLoss()),
        3 * BATCH,
        "float32",
    ),
    "arc_face_sum_ragged_float64": (
        lambda: batch_loss(
            keras_finegrain.losses.ArcFaceLoss(reduction="sum"),
            keras_finegrain.CosineSimilarity(CLASSES),
        ),
        2 * BATCH + 9,
        "float64",
    ),
    "proxy_anchor_ragged": (
        lambda: batch_loss(
            keras_finegrain.losses.ProxyAnchorLoss(),
            keras_finegrain.CosineSimilarity(CLASSES),
        ),
        2 * BATCH + 9,
        "float32",
    ),
    # With no compiled loss of Keras's own: it averages a ragged batch per
    # replica.
    "ragged": (
        lambda: full(False, normalize=False),
        2 * BATCH + 9,
        "float32",
    ),
    "ragged_class_mean": (
        lambda: full(False, normalize=False, reduction="class_mean"),
        2 * BATCH + 9,
        "float32",
    ),
    "ragged_to_one": (
        lambda: full(False, normalize=False),
        2 * BATCH + 1,
        "float32",
    ),
    "ragged_first": (
        lambda: full(False, normalize=False),
        BATCH - 3,
        "float32",
    ),
}


def head_loss(model):
    if isinstance(model.layers[-1], keras_finegrain.SoftTriple):
        return keras_finegrain.losses.SoftTripleLoss()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def replica_spread(model_weights):
    """The largest difference between the replicas' copies of a variable."""
    spread = 0.0
    for variable in model_weights:
        copies = getattr(variable.value, "values", None)
        if isinstance(copies, tuple):
            copies = [copy.numpy() for copy in copies]
            spread = max(spread, *(np.abs(copies[0] - c).max() for c in copies))
    return spread


def built(name):
    """The scenario's model, with weights that do not depend on the process."""
    model, loss = SCENARIOS[name][0]()
    generator = np.random.default_rng(5)
    for variable in model.weights:
        # Centers count by their direction alone: short ones would turn far
        # in one step, and rounding with them.
        scale = 1.0 if variable.path.endswith("centers") else 0.1
        value = generator.normal(scale=scale, size=variable.shape)
        if variable.path.endswith(("gamma", "variance")):
            value = 1.0 + np.square(value)
        variable.assign(value)
    # The scale of 20 in SoftTriple's loss multiplies every gradient: at three
    # times this rate the kernels turn over in six steps, and the network
    # magnifies the rounding of a sum's order twentyfold.
    optimizer = keras.optimizers.SGD(3e-4, momentum=0.9)
    if name.startswith("all_layers"):
        optimizer = keras_finegrain.optimizers.LayerwiseLearningRate(
            optimizer, {"dense": 0.5, "conv2d": 2}
        )
    if loss is True:
        loss = head_loss(model)
    model.compile(optimizer, loss or None)
    return model


def fits_on_workers():
    """Whether `fit` of this Keras trains on several processes."""
    return keras.backend.backend() != "torch" or trains_on_ranks()


def train_on_ranks(model, inputs, labels, batch):
    """What `fit` of two epochs does, in a loop around PyTorch's own wrapper."""
    with pytest.raises(ValueError, match=r"torch\.distributed must have one"):
        model.fit(inputs, labels, batch_size=batch, verbose=0)
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    for start in [*range(0, len(labels), batch)] * 2:
        x = ops.convert_to_tensor(inputs[start : start + batch])
        y = ops.convert_to_tensor(labels[start : start + batch])
        with keras_finegrain.label_scope(y):
            wrapped.zero_grad()
            predictions = wrapped(x, training=True)
            loss = model.compute_loss(x, y, predictions)
            loss.backward()
        with torch.no_grad():
            model.optimizer.apply(
                [v.value.grad for v in model.trainable_variables],
                model.trainable_variables,
            )


def trained(model):
    return {f"weight {v.path}": ops.convert_to_numpy(v) for v in model.weights}


def run(model, count):
    """What training and evaluation end with, by name."""
    images, labels = data(count)
    batch = BATCH
    if keras.backend.backend() == "jax":
        distributed = keras.distribution.distribution() is not None
        assert distributed == (REPLICAS * WORKERS > 1)
    if keras.backend.backend() != "tensorflow":
        # Each process is given its own share of a batch. (TensorFlow shares
        # out a data set by itself.)
        share = np.concatenate(
            [
                np.array_split(
                    np.arange(count)[start : start + batch], WORKERS
                )[WORKER]
                for start in range(0, count, batch)
            ]
        )
        images, labels = images[share], labels[share]
        batch //= WORKERS
    inputs = images
    if isinstance(model.input, dict):
        inputs = {"image": images, "label": labels}
    if WORKERS > 1 and not fits_on_workers():
        train_on_ranks(model, inputs, labels, batch)
        return trained(model)
    history = model.fit(
        inputs, labels, batch_size=batch, epochs=2, shuffle=False, verbose=0
    ).history
    scores = model.evaluate(
        inputs, labels, batch_size=batch, verbose=0, return_dict=True
    )
    predictions = {}
    if keras.backend.backend() == "tensorflow" or WORKERS == 1:
        # Keras cannot predict on several processes of JAX.
        predictions["predictions"] = model.predict(
            inputs, batch_size=batch, verbose=0
        )
    return {
        **predictions,
        "replica spread": replica_spread(model.weights),
        **trained(model),
        **{f"fit {key}": value for key, value in history.items()},
        **{f"evaluate {key}": value for key, value in scores.items()},
    }


def main():
    results = {}
    scope = scope_maker()
    for name in sys.argv[3:] or SCENARIOS:
        _, count, floatx = SCENARIOS[name]
        # Keras shards no ragged batch on JAX, with or without our layers.
        if keras.backend.backend() == "jax" and count % BATCH:
            continue
        # Names of layers are counted from the start for every scenario.
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(floatx)
        with scope():
            model = built(name)
        for key, value in run(model, count).items():
            results[f"{name}/{key}"] = np.asarray(value)
    np.savez(sys.argv[2], **results)
    if keras.backend.backend() == "torch" and WORKERS > 1:
        # A process that leaves the group open may abort on its way out.
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
