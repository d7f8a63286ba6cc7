"""Principal components: what is summed over the rows, and what is made of the sums. Pure numpy and LAPACK.

Touches nothing. Sums are gathered on executors and merged there and on the driver; ``Projection`` is used on both, and
by serving.
"""

from mirabelle.reduction.moments import Moments, MomentsSum, block_rows
from mirabelle.reduction.projection import Projection, fewest_components, fit
from mirabelle.reduction.sketch import Sketch, SketchSum, fit_sketch, next_basis

__all__ = [
    "Moments",
    "MomentsSum",
    "Projection",
    "Sketch",
    "SketchSum",
    "block_rows",
    "fewest_components",
    "fit",
    "fit_sketch",
    "next_basis",
]
