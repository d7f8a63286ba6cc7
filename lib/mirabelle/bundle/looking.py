"""What an answer rests on: the network's last maps, a part at a time made to say nothing. [OpenVINO]

As occlusion (M. D. Zeiler, R. Fergus, Visualizing and Understanding Convolutional Networks, 2014), but of the maps
instead of the picture: the network runs once, and only what comes behind its maps runs for each part. It asks the
classifier itself, so it serves trees as well as what has gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.errors import BundleError
from mirabelle.network.embedding import Precision
from mirabelle.network.engines import Features, Files, Pixels, compile_files

Scores = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
"""Probabilities (n, classes), and the column (n,) of what is answered."""

# Parts in a row and in a column, at most.
PARTS = 8
# Of probabilities, so that those of 0 have odds.
LEAST = 1e-300
MAPS_RANK = 4


class Looker:
    """A network in two: up to its last maps, and from them to its features. Not for several threads at once."""

    def __init__(self, network: Files, precision: Precision, threads: int) -> None:
        """Part and compile it.

        Raises:
            BundleError: it has no maps.
        """
        self._below = compile_files(network, precision, threads, _up_to_maps)
        self._above = compile_files(network, precision, threads, _from_maps)

    def look(self, pixels: Pixels, scores: Callable[[Features], Scores]) -> npt.NDArray[np.float32]:
        """Heat of each part for the answer that wins.

        Args:
            pixels: uint8 (side, side, 3).
            scores: from features (n, width) to probabilities (n, classes) and what is answered, which need not be the
                likeliest: a chain goes on from its likeliest first label, and a classifier may have thresholds.

        Returns:
            float32 (rows, columns), 0 to 1.
        """
        maps = np.array(self._below([pixels[None]])[0], np.float32)
        axis = _first_side(maps.shape)
        rows, columns = (_edges(maps.shape[axis + i]) for i in range(2))
        mean = maps.mean(axis=(axis, axis + 1), keepdims=True)
        variants = [maps]
        for top, bottom in rows:
            for left, right in columns:
                one = maps.copy()
                place: list[slice] = [slice(None)] * MAPS_RANK
                place[axis], place[axis + 1] = slice(top, bottom), slice(left, right)
                one[tuple(place)] = mean
                variants.append(one)
        probabilities, answered = scores(np.array(self._above([np.concatenate(variants)])[0], np.float32))
        said, label = np.maximum(probabilities, LEAST), int(answered[0])
        odds = np.log(said[:, label]) - np.log(np.delete(said, label, axis=1).max(axis=1))
        heat = np.clip(odds[0] - odds[1:], 0, None).reshape(len(rows), len(columns))
        return np.asarray(heat / heat.max() if heat.max() > 0 else heat, np.float32)


def _edges(side: int) -> list[tuple[int, int]]:
    """A side in parts, as equal as they can be."""
    at = np.linspace(0, side, min(side, PARTS) + 1).round().astype(int).tolist()
    return list(pairwise(at))


def _first_side(shape: tuple[int, ...]) -> int:
    """The axis of height, which width follows: pictures are square, and so are maps."""
    if shape[1] == shape[2]:
        return 1
    if shape[2] == shape[3]:
        return 2
    raise BundleError("this network has no maps of places, so nothing tells what its answer rests on")


def _last_maps(model: Any) -> Any:
    """The output, of rank 4, that the features are made of."""
    output = model.output(0)
    while output.get_partial_shape().rank.get_length() != MAPS_RANK:
        inputs = [one.get_source_output() for one in output.get_node().inputs()]
        inner = [one for one in inputs if one.get_node().get_type_name() != "Constant"]
        if not inner:
            raise BundleError("this network has no maps of places, so nothing tells what its answer rests on")
        output = inner[0]
    return output


def _up_to_maps(openvino: Any, model: Any) -> Any:
    return openvino.Model([_last_maps(model)], model.get_parameters())


def _from_maps(openvino: Any, model: Any) -> Any:
    maps = _last_maps(model)
    given = openvino.opset13.parameter(maps.get_partial_shape(), maps.get_element_type(), name="maps")
    for user in list(maps.get_target_inputs()):
        user.replace_source_output(given.output(0))
    return openvino.Model([model.output(0).get_node().input_value(0)], [given])
