"""The camera: a cloud turned, its nearest surfel of each sub-pixel lit, and scaled down to a picture.

The shape is worked out once a kind, not once a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fruits.brush import Floats, Surfels

SUPERSAMPLE = 2  # sub-pixels a side; the four of a pixel are averaged
FILL = 0.97  # share of the frame's half width that the fruit's farthest point reaches
LIGHT = np.array([-0.46, 0.62, 0.64], np.float32)  # towards the lamp in camera axes: left, above, in front; length 1
HALFWAY = (LIGHT + np.array([0, 0, 1], np.float32)) / np.linalg.norm(LIGHT + np.array([0, 0, 1], np.float32))


@dataclass(frozen=True)
class View:
    """One picture to take: where it goes and how the fruit stands."""

    path: str
    turn_degrees: float
    elevation_degrees: float


def pose(view: View, lean_degrees: float) -> Floats:
    """The rotation (3, 3) from fruit axes (z along its stem) to camera axes (x right, y up, z to the viewer)."""
    lean, turn, lift = (math.radians(v) for v in (lean_degrees, view.turn_degrees, view.elevation_degrees))
    leaning = np.array([[math.cos(lean), 0, math.sin(lean)], [0, 1, 0], [-math.sin(lean), 0, math.cos(lean)]])
    turning = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    upright = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    tilting = np.array([[1, 0, 0], [0, math.cos(lift), -math.sin(lift)], [0, math.sin(lift), math.cos(lift)]])
    return np.asarray(tilting @ upright @ turning @ leaning, np.float32)


def photograph(cloud: Surfels, rotation: Floats, size: int, rng: np.random.Generator) -> Image.Image:
    """The picture (size x size, RGB, on white) of a cloud turned by `rotation`."""
    side = size * SUPERSAMPLE
    nearest = _nearest(cloud, rotation, side)
    shown = nearest >= 0
    where = np.flatnonzero(shown)
    which = nearest.ravel()[where]
    points, normals, colour, shine = (
        np.take(part, which, axis=1) for part in (cloud.points, cloud.normals, cloud.colour, cloud.shine)
    )
    depth = np.full((side, side), -9, np.float32)
    depth.ravel()[where] = rotation[2] @ points
    shadow, hollow = _shadow(depth).ravel()[where], _hollow(depth, shown).ravel()[where]
    light = _lit(rotation @ normals, colour, shine, shadow, hollow) * np.float32(1 + rng.normal() * 0.015)
    frame = np.ones((3, side * side), np.float32)
    for channel, value in zip(frame, np.clip(light, 0, 1) ** np.float32(1 / 2.2), strict=True):
        channel[where] = value
    small = _averaged(frame.reshape(3, side, side))
    grain = rng.standard_normal(small.shape, np.float32) * np.float32(0.006)  # the sensor's, none on the white
    small += grain * _averaged(shown[None].astype(np.float32))
    return Image.fromarray((np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy())


def _averaged(frame: Floats) -> Floats:
    """Each pixel's mean over its sub-pixels, (n, side, side) to (n, size, size)."""
    steps = range(SUPERSAMPLE)
    parts = [frame[:, i::SUPERSAMPLE, j::SUPERSAMPLE] for i in steps for j in steps]
    return np.asarray(sum(parts[1:], parts[0]) / np.float32(len(parts)), np.float32)


def _nearest(cloud: Surfels, rotation: Floats, side: int) -> NDArray[np.int64]:
    """For each sub-pixel (side, side) the number of the surfel nearest the camera, -1 for none."""
    facing = np.flatnonzero(rotation[2] @ cloud.normals > 0)
    x, y, z = rotation @ cloud.points[:, facing]
    middle, scale = side / 2, side / 2 * FILL
    pixel = (middle - y * scale).astype(np.int64) * side + (middle + x * scale).astype(np.int64)
    # Depth in the high bits, the surfel's number in the low ones: the greatest key of a pixel is its nearest surfel.
    keys = (((z + 2) * (1 << 18)).astype(np.int64) << 24) | facing
    buffer = np.full(side * side, -1, np.int64)
    np.maximum.at(buffer, pixel, keys)
    grid = buffer.reshape(side, side)
    for first, second in ((grid[1:-1, :-2], grid[1:-1, 2:]), (grid[:-2, 1:-1], grid[2:, 1:-1])):  # close pinholes
        inner = grid[1:-1, 1:-1]
        hole = (inner < 0) & (first >= 0) & (second >= 0)
        inner[hole] = first[hole]
    return np.where(grid >= 0, grid & ((1 << 24) - 1), -1)


def _shadow(depth: Floats) -> Floats:
    """1 where the lamp is hidden behind a nearer part (side, side), walked along the light in the depth picture."""
    side = depth.shape[0]
    flat = math.hypot(float(LIGHT[0]), float(LIGHT[1]))
    rise = float(LIGHT[2]) / flat * 2 / side
    reach = side // 4
    padded = np.pad(depth, reach, constant_values=-9)
    hidden = np.zeros(depth.shape, np.float32)
    for step in (1.5, 3, 5, 7.5, 11, 15, 20, 26, 33, 40):
        pace = step * side / 200
        dx, dy = round(pace * float(LIGHT[0]) / flat), round(-pace * float(LIGHT[1]) / flat)
        over = padded[reach + dy : reach + dy + side, reach + dx : reach + dx + side] - depth - pace * rise
        np.maximum(hidden, np.clip((over - 0.015) * 25, 0, 1), out=hidden)
    return _blurred(hidden, max(1, side // 200))


def _hollow(depth: Floats, shown: NDArray[np.bool_]) -> Floats:
    """How far each place lies behind its surroundings (side, side), 0..1: corners and gaps get less of the sky."""
    radius = max(1, depth.shape[0] // 22)
    share = _blurred(shown.astype(np.float32), radius)
    around = _blurred(np.where(shown, depth, np.float32(0)), radius) / np.maximum(share, 1e-3)
    return np.asarray(np.clip((around - depth) * 4.5, 0, 1), np.float32)


def _blurred(field: Floats, radius: int) -> Floats:
    """The mean over a square of that radius, by running sums."""
    width = 2 * radius + 1
    for axis in (0, 1):
        padded = np.pad(field, [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        sums = np.cumsum(padded, axis=axis, dtype=np.float64)
        field = ((sums[width:] - sums[:-width]) if axis == 0 else (sums[:, width:] - sums[:, :-width])) / width
    return np.asarray(field, np.float32)


def _lit(normals: Floats, colour: Floats, shine: Floats, shadow: Floats, hollow: Floats) -> Floats:
    """Linear light (3, n) of surfels seen from the front: lamp, sky, the white table's reflection and the highlight."""
    gloss, exponent, creep = shine
    toward = LIGHT @ normals
    lamp = np.clip((toward + creep) / (1 + creep), 0, 1) - 0.75 * shadow * np.clip(toward, 0, 1)
    sky = (0.20 + 0.10 * normals[1] + 0.10 * normals[2]) * (1 - 0.75 * hollow)
    table = 0.14 * np.clip(-normals[1], 0, 1) * (1 - hollow)
    spot = gloss * np.clip(HALFWAY @ normals, 0, 1) ** exponent * (1 - shadow)
    edge = gloss * 0.12 * np.clip(1 - normals[2], 0, 1) ** 4
    return np.asarray(colour * (1.02 * np.clip(lamp, 0, 1) + sky + table) + (spot + edge), np.float32)
