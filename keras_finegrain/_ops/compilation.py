"""What a computation may ask about its compiler."""

import keras


def is_compiled_by_xla() -> bool:
    """Whether XLA compiles what is computed now.

    Always on JAX. On TensorFlow inside of a `tf.function(jit_compile=True)`,
    which Keras makes of a step where a model was compiled so.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        return backend == "jax"
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    # (TensorFlow has no public name for it.)
    return bool(
        control_flow_util.GraphOrParentsInXlaContext(
            tf.compat.v1.get_default_graph()
        )
    )
