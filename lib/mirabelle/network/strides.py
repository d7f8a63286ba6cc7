"""Strides moved up a network, so that nothing is computed that the next layer steps over. [OpenVINO's models, lazily]

ResNet's stages begin with 1 x 1 convolutions of stride 2: of the layers right before them three quarters are thrown
away. OpenVINO moves such strides up by itself, but not past the quantisation of activations.
"""

from __future__ import annotations

from typing import Any

# What works on each position by itself, so that positions may as well be left out before it.
_POINTWISE = {"Add", "FakeQuantize", "Multiply", "Relu", "Subtract"}


def move_strides_up(model: Any) -> None:
    """Change one of OpenVINO's models, of maps with their channels first, in place; what it answers stays what it is.

    Where all that read a layer's maps read every second row and column of them, no others are made: convolutions
    take the stride themselves, what works by position hands it on, and where neither can, a pooling of one pixel skips.
    """
    thinned: dict[Any, None] = {}
    for node in reversed(model.get_ordered_ops()):
        readers = [reader for output in node.outputs() for reader in output.get_target_inputs()]
        if _can_be_thinned(node) and readers and all(_skips(reader, thinned) for reader in readers):
            thinned[node] = None
    poolings: dict[Any, Any] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Convolution":
            _set_stride(node, 1 + (node in thinned), 1 + (node.input_value(0).get_node() in thinned))
        elif node in thinned:
            _pool_inputs(node, thinned, poolings)
    model.validate_nodes_and_infer_types()


def _can_be_thinned(node: Any) -> bool:
    """A convolution, or what works by position; of maps whose size is known."""
    if node.get_output_size() != 1 or _size(node.output(0)) is None:
        return False
    if node.get_type_name() == "Convolution":
        return True
    return node.get_type_name() in _POINTWISE and all(
        _size(source) == _size(node.output(0)) or _is_even(source) for source in node.input_values()
    )


def _skips(reader: Any, thinned: dict[Any, None]) -> bool:
    """Whether an input needs every second row and column alone."""
    node = reader.get_node()
    if node.get_type_name() != "Convolution":
        return node in thinned
    told = node.get_attributes()
    is_of_pixels = _size(node.input_value(1)) == (1, 1) and not any([*told["pads_begin"], *told["pads_end"]])
    return reader.get_index() == 0 and is_of_pixels and (node in thinned or told["strides"] == [2, 2])


def _set_stride(convolution: Any, times: int, given: int) -> None:
    """``times`` what it is, of which ``given`` is done by what it reads."""
    if times == given:
        return
    told = convolution.get_attributes()
    convolution.set_attribute("strides", [stride * times // given for stride in told["strides"]])
    # "Same" would pad otherwise for another stride.
    convolution.set_attribute("auto_pad", "explicit")
    for pads in ("pads_begin", "pads_end"):
        convolution.set_attribute(pads, told[pads])


def _pool_inputs(node: Any, thinned: dict[Any, None], poolings: dict[Any, Any]) -> None:
    """Have a thinned node read thinned maps; those who read the same maps share a pooling."""
    from openvino import opset13

    for edge, source in zip(node.inputs(), node.input_values(), strict=True):
        if _size(source) != _size(node.output(0)) or source.get_node() in thinned:
            continue
        if source not in poolings:
            poolings[source] = opset13.max_pool(source, [2, 2], [1, 1], [0, 0], [0, 0], [1, 1]).output(0)
        edge.replace_source_output(poolings[source])


def _is_even(output: Any) -> bool:
    """Whether it is the same for all rows and columns."""
    shape = output.get_partial_shape()
    return shape.rank.is_static and all(size.is_static and size.get_length() == 1 for size in list(shape)[-2:])


def _size(output: Any) -> tuple[int, int] | None:
    """Rows and columns of (n, channels, rows, columns); None where it is no such thing or they are not known."""
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 4 or shape[2].is_dynamic or shape[3].is_dynamic:
        return None
    return shape[2].get_length(), shape[3].get_length()
