"""The report: what a run found, as one HTML page that works offline.

:func:`render` takes arrays and plain values (:class:`ReportContents`) and returns the page as a string; writing it
somewhere is the caller's business. Runs on the driver. Touches no Spark, disk, network or environment, and imports
nothing else from mirabelle; Altair, vl-convert and Jinja are imported when a page is rendered, not before.
"""

from __future__ import annotations

from mirabelle.report.contents import (
    Learning,
    Looked,
    Neighbours,
    Reject,
    ReportContents,
    Scatter,
    Scree,
    Views,
)
from mirabelle.report.judged import Certified, Chained, Compared, ConfusedPair, Evaluation, Flattered
from mirabelle.report.page import render
from mirabelle.report.pictures import Picture

__all__ = [
    "Certified",
    "Chained",
    "Compared",
    "ConfusedPair",
    "Evaluation",
    "Flattered",
    "Learning",
    "Looked",
    "Neighbours",
    "Picture",
    "Reject",
    "ReportContents",
    "Scatter",
    "Scree",
    "Views",
    "render",
]
