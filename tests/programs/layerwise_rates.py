"""Trains on two replicas with multiplied learning rates; and by hand.

python -m tests.programs.layerwise_rates OUTPUT.npz

The program saves the weights before and after. `by_hand` computes in NumPy
what AdamW, without decay of the biases, makes of the first ones.
"""

import sys

import keras
import numpy as np

from keras_finegrain.optimizers import LayerwiseLearningRate

EPOCHS = 4
RATE = 0.01
DECAY = 0.1
MULTIPLIERS = {"backbone/bias": 0, "backbone": 0.5, "head": 10}
BY_WEIGHT = [0.5, 0.0, 10.0, 10.0]


def data():
    generator = np.random.default_rng(0)
    return (
        generator.normal(size=(8, 4)).astype("float32"),
        generator.normal(size=(8, 2)).astype("float32"),
    )


def model():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, name="backbone"),
            keras.layers.Dense(2, name="head"),
        ]
    )


def optimizer():
    return LayerwiseLearningRate(
        # 1 - 0.999**t would round to 1e-5 in float32.
        keras.optimizers.AdamW(RATE, DECAY, beta_2=0.9),
        MULTIPLIERS,
    )


def fit(trained, epochs=EPOCHS, **arguments):
    return trained.fit(
        *data(),
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        **arguments,
    )


def loss(weights):
    inputs, targets = data()
    kernel, bias, head_kernel, head_bias = weights
    outputs = (inputs @ kernel + bias) @ head_kernel + head_bias
    return np.square(outputs - targets).mean()


def gradients(weights):
    """The gradient of the mean squared error by each weight."""
    inputs, targets = data()
    kernel, bias, head_kernel, head_bias = weights
    hidden = inputs @ kernel + bias
    error = hidden @ head_kernel + head_bias - targets
    error = 2 * error / error.size
    back = error @ head_kernel.T
    return [inputs.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]


def by_hand(weights):
    """The weights after the epochs, of one batch each."""
    weights = [weight.astype("float64") for weight in weights]
    first = [np.zeros_like(weight) for weight in weights]
    second = [np.zeros_like(weight) for weight in weights]
    for step in range(1, EPOCHS + 1):
        for index, gradient in enumerate(gradients(weights)):
            rate = RATE * BY_WEIGHT[index]
            if weights[index].ndim == 2:
                weights[index] -= DECAY * rate * weights[index]
            first[index] += 0.1 * (gradient - first[index])
            second[index] += 0.1 * (np.square(gradient) - second[index])
            rate *= np.sqrt(1 - 0.9**step) / (1 - 0.9**step)
            weights[index] -= (
                rate * first[index] / (np.sqrt(second[index]) + 1e-7)
            )
    return weights


def main():
    (output,) = sys.argv[1:]
    # It reads the number of replicas there, and sets the devices up.
    sys.argv[1] = "2"
    from tests.programs import replicas

    with replicas.scope_maker()():
        trained = model()
        rates = optimizer()
        rates.exclude_from_weight_decay(var_names=["bias"])
        trained.compile(rates, "mse")
    before = trained.get_weights()
    fit(trained)
    np.savez(output, *before, *trained.get_weights())


if __name__ == "__main__":
    main()
