"""Floating-point operations of a network."""

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def flops_per_example(network: keras.Model) -> int:
    """Floating-point operations to run a network on one example, by TensorFlow's profiler: a multiply-add is two."""
    one = {value.name: tf.TensorSpec((1, *value.shape[1:]), value.dtype) for value in network.inputs}
    traced = tf.function(lambda inputs: network(inputs)).get_concrete_function(one)
    graph = convert_variables_to_constants_v2(traced).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)
