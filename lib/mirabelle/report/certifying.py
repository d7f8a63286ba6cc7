"""The part of a page that says what speed cost in fidelity. Pure; runs on the driver."""

from __future__ import annotations

from typing import Any

from mirabelle.report.judged import Certified
from mirabelle.report.wording import whole

View = dict[str, Any]


def certified(told: Certified | None) -> View:
    """A certificate as a table, the row of this page's features marked."""
    if told is None:
        return {"absent": "No certificate of this network has been made", "command": "mirabelle certify"}
    return {
        "absent": None,
        "id": told.id,
        "pictures": whole(told.pictures),
        "listed": whole(told.listed),
        "machine": told.machine,
        "head": told.head,
        "rows": [{"name": row[0], "figures": row[1:], "taken": row[0] == told.taken} for row in told.rows],
        "about": told.about[:1].upper() + told.about[1:] + ".",
        "left_out": told.left_out,
    }
