"""Strides moved up: what is left out, and that the answer stays what it is, number by number."""

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from mirabelle.network.strides import move_strides_up

DRAWN = np.random.default_rng(0)
CHANNELS = 4
# How a network goes on behind its stage: given the maps, what is answered.
Ending = Callable[[Any], Any]


def quantise(maps: Any) -> Any:
    return ops.fake_quantize(maps, *(np.float32(bound) for bound in (-4, 4, -4, 4)), 256)


def convolution(maps: Any, kernel: int, stride: int = 1, pad: str = "same_upper") -> Any:
    weights = DRAWN.normal(0, 0.3, (CHANNELS, CHANNELS, kernel, kernel)).astype(np.float32)
    made = ops.convolution(maps, weights, [stride, stride], [0, 0], [0, 0], [1, 1], pad)
    biased = ops.add(made, DRAWN.normal(size=(1, CHANNELS, 1, 1)).astype(np.float32))
    return quantise(ops.relu(biased))


def skipping(maps: Any) -> Any:
    """A stage's beginning as ResNet has it: both its ways step over every second pixel."""
    return ops.add(convolution(maps, 1, 2, "valid"), convolution(convolution(maps, 1, 2, "valid"), 3))


def network(side: int, ending: Ending) -> Any:
    """Two layers, a sum over them and what came before them, and an ending."""
    given = ops.parameter([-1, CHANNELS, side, side], np.float32)
    before = convolution(given, 3)
    block = convolution(convolution(convolution(before, 1), 3), 1)
    maps = quantise(ops.relu(ops.add(before, block)))
    return openvino.Model([ops.result(output) for output in ending(maps)], [given])


def strides(model: Any) -> list[int]:
    found = [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]
    return [op.get_attributes()["strides"][0] for op in found]


def answers(model: Any, side: int) -> list[np.ndarray]:
    pixels = np.random.default_rng(1).normal(size=(3, CHANNELS, side, side)).astype(np.float32)
    # Plainly computed, so that nothing but the graph can make a difference.
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})
    return [np.array(output) for output in compiled(pixels).values()]


@pytest.mark.parametrize("side", [8, 7, 2])
def test_what_the_next_layer_steps_over_is_not_computed(side: int) -> None:
    model = network(side, lambda maps: [skipping(maps)])
    before = answers(model.clone(), side)
    assert sorted(strides(model)) == [1, 1, 1, 1, 1, 2, 2]
    move_strides_up(model)
    # The 3 x 3 of the block has taken the stride on, and the layers behind it have none any more.
    assert sorted(strides(model)) == [1, 1, 1, 1, 1, 1, 2]
    assert [op.get_type_name() for op in model.get_ordered_ops()].count("MaxPool") == 1, "of what came before"
    for found, expected in zip(answers(model, side), before, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda maps: [skipping(maps), ops.reduce_mean(maps, [2, 3])], id="another layer reads all"),
        pytest.param(lambda maps: [skipping(maps), maps], id="it is an answer"),
        pytest.param(lambda maps: [skipping(maps), convolution(maps, 1)], id="a layer without a stride reads all"),
        pytest.param(lambda maps: [convolution(maps, 3, 2)], id="a wider kernel reads what it steps over"),
        pytest.param(lambda maps: [convolution(maps, 3)], id="nothing steps over anything"),
    ],
)
def test_maps_that_are_needed_whole_are_made_whole(ending: Ending) -> None:
    model = network(8, ending)
    before, found = strides(model), answers(model.clone(), 8)
    move_strides_up(model)
    assert strides(model) == before
    assert all(np.array_equal(one, other) for one, other in zip(answers(model, 8), found, strict=True))


@pytest.mark.parametrize("shape", [(8,), (8, 1), (1, 8), (CHANNELS, 8, 8), (1, CHANNELS, 8, 1)])
def test_what_differs_from_place_to_place_is_left_where_it_is(shape: tuple[int, ...]) -> None:
    weights = DRAWN.normal(size=shape).astype(np.float32)
    model = network(8, lambda maps: [skipping(ops.multiply(maps, weights))])
    before, found = strides(model), answers(model.clone(), 8)
    move_strides_up(model)
    assert strides(model) == before
    assert np.array_equal(answers(model, 8)[0], found[0])
