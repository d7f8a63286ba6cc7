"""A small network of one's own, to be trained from nothing. [Keras, lazily]"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

NAME = "small"
# Filters of its blocks, each a convolution of 3 x 3 and a halving: the usual first network for photographs of two
# classes (F. Chollet, Deep Learning with Python, 2018, 5.2).
FILTERS = (32, 64, 128, 128)


def small(keras: Any, input_px: int) -> keras.Model:
    """Four blocks without a top: float32 (n, input_px, input_px, 3) into (n, input_px // 16, input_px // 16, 128)."""
    layers = keras.layers
    inputs = found = keras.Input((input_px, input_px, 3), name="pixels")
    for block, filters in enumerate(FILTERS, 1):
        found = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"block{block}_conv")(found)
        found = layers.MaxPooling2D(2, name=f"block{block}_pool")(found)
    return keras.Model(inputs, found, name=NAME)
