"""Other views of a picture: turned, moved, slanted, larger or smaller, mirrored. Pure: an array in, an array out."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from mirabelle.config.finetuning import Augment

Pixels = npt.NDArray[np.uint8]

_BEYOND = {"nearest": "edge", "reflect": "reflect", "constant": "constant"}


def augmented(pixels: Pixels, wanted: Augment, random: np.random.Generator, ground: tuple[int, int, int]) -> Pixels:
    """One view, drawn from ``random``, resampled once, bilinearly.

    Args:
        pixels: uint8 (side, side, 3); not changed.
        wanted: how far it may go from the picture as it is.
        random: eight numbers of it are used whatever is wanted, so that views of two settings can be compared.
        ground: RGB beyond the edge, where that is what is wanted.

    Returns:
        uint8 (side, side, 3).
    """
    side = len(pixels)
    turn, right, down, slant, wide, high, mirrored, upside_down = random.uniform(-1, 1, 8)
    angle = math.radians(wanted.rotation_degrees * turn)
    scale_x, scale_y = 1 + wanted.zoom * wide, 1 + wanted.zoom * high
    mirror_x = -1 if mirrored > 0 and wanted.flip in ("horizontal", "both") else 1
    mirror_y = -1 if upside_down > 0 and wanted.flip in ("vertical", "both") else 1
    # From a place in the view to the place in the picture that is seen there, both from their middles.
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slanted = np.array([[1.0, wanted.shear * slant], [0.0, 1.0]])
    seen = turned @ slanted @ np.diag([mirror_x * scale_x, mirror_y * scale_y])
    # Wide enough for every corner: half a diagonal, slanted and shrunk, and what it is moved by.
    furthest = 0.71 * (1 + wanted.zoom) * (1 + wanted.shear) + max(wanted.width_shift, wanted.height_shift)
    edge = math.ceil(side * (furthest - 0.5))
    edge = max(1, min(edge, side - 1) if wanted.fill == "reflect" else edge)
    padded = _padded(pixels, edge, wanted.fill, ground)
    middle = (side - 1) / 2
    moved = np.array([wanted.width_shift * right, wanted.height_shift * down]) * side
    origin = middle + edge + moved - seen @ np.array([middle, middle])
    # Pillow takes pixels for squares whose middles are at a half.
    origin += 0.5 - seen @ np.array([0.5, 0.5])
    numbers = (*seen[0], origin[0], *seen[1], origin[1])
    view = Image.fromarray(padded).transform((side, side), Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR)
    return np.asarray(view)


def _padded(pixels: Pixels, edge: int, fill: str, ground: tuple[int, int, int]) -> Pixels:
    if fill != "constant":
        return np.pad(pixels, ((edge, edge), (edge, edge), (0, 0)), mode=_BEYOND[fill])  # type: ignore[call-overload,no-any-return]
    padded = np.empty((len(pixels) + 2 * edge, len(pixels) + 2 * edge, 3), dtype=np.uint8)
    padded[:] = ground
    padded[edge:-edge, edge:-edge] = pixels
    return padded
