"""Where a network looked: Grad-CAM. [Keras on TensorFlow]

R. R. Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, 2017: the
last layer's maps, each weighted by how much the answer would gain from more of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras


def attention(model: keras.Model, layer: str, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Heat of each place of the layer for what the model answers, 0 to 1.

    Args:
        model: as ``Taught`` has it.
        layer: whose output has height and width.
        pixels: float32 (n, side, side, 3), normalised.

    Returns:
        float32 (n, height, width) of the layer; nothing but 0 where nothing speaks for the answer.
    """
    import keras
    import tensorflow as tf

    last = model.get_layer(layer).output
    maps = keras.Model(model.inputs, last)(tf.convert_to_tensor(pixels), training=False)
    above = keras.Model(last, model.output)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        answer = above(maps, training=False)
        # Of two classes the one number is the second's.
        said = tf.concat([1 - answer, answer], 1) if answer.shape[1] == 1 else answer
        score = tf.math.log(tf.reduce_max(said, 1) + 1e-7)
    gradients = tape.gradient(score, maps)
    weights = tf.reduce_mean(tf.cast(gradients, tf.float32), axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), -1)).numpy()
    most = heat.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(heat, most, out=np.zeros_like(heat), where=most > 0), np.float32)
