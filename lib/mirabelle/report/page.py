"""Contents to one HTML page that needs nothing but itself.

Pure; runs on the driver. Everything that comes from data is escaped by Jinja or written as JSON that cannot end a
script element, and the page's Content-Security-Policy lets only its own three scripts run and nothing be fetched.
"""

from __future__ import annotations

from typing import Any

from mirabelle.report import assets, certifying, chaining, learning, results, sections
from mirabelle.report.contents import ReportContents

NAVIGATION = (
    ("ran", "What ran on what"),
    ("rejects", "Counts and rejects"),
    ("components", "Principal components"),
    ("map", "Map of the images"),
    ("neighbours", "Nearest neighbours"),
    ("learning", "How it learnt"),
    ("classifier", "Classifier"),
    ("chained", "Chain"),
    ("compared", "Beside each other"),
    ("certified", "What speed cost"),
    ("speed", "Speed"),
)
# A network that was taught has no features to reduce; what is computed by Spark has not been taught.
ONLY_OF_FEATURES = ("components", "map", "neighbours")
ONLY_OF_TEACHING = ("learning",)
STYLES = ("page.css", "parts.css")
SCRIPTS = ("page.js", "map.js")


def _charts(view: dict[str, Any]) -> dict[str, Any]:
    """The specifications of the page by the id of the element that each is drawn in."""
    found = {
        "chart-rejects": view["rejects"].get("spec"),
        "chart-components": view["components"].get("spec"),
        "chart-map": view["map"].get("spec"),
        **{f"chart-{name}": spec for name, spec in view["learning"].get("specs", {}).items()},
        "chart-chained": view["chained"].get("spec"),
        "chart-compared": view["compared"].get("spec"),
        "chart-confusion": view["classifier"].get("spec"),
        "chart-clock": (view["speed"]["clock"] or {}).get("spec"),
        "chart-work": (view["speed"]["work"] or {}).get("spec"),
    }
    return {name: spec for name, spec in found.items() if spec is not None}


def render(contents: ReportContents) -> str:
    """Render the report.

    Args:
        contents: what to show; not changed. Its text may hold anything, markup included.

    Returns:
        One HTML document: styles, scripts, charts and pictures are inside, and nothing is loaded from elsewhere. The
        same contents give the same page. It can be written as UTF-8 (lone surrogates in paths become ``?``).

    Raises:
        ImportError: Altair, vl-convert or Jinja is not installed; they come with the ``driver`` extra.
    """
    from markupsafe import Markup

    view: dict[str, Any] = {
        "header": sections.header(contents),
        "headline": sections.headline(contents),
        "ran": sections.ran(contents),
        "rejects": sections.rejects(contents),
        "components": results.variance(contents),
        "map": results.map_(contents),
        "neighbours": results.neighbours(contents),
        "learning": learning.learning(contents.learning),
        "classifier": results.classifier(contents),
        "chained": chaining.chained(contents.chained),
        "compared": results.compared(contents.compared),
        "certified": certifying.certified(contents.certified),
        "speed": sections.speed(contents),
    }
    absent = {*(ONLY_OF_FEATURES if contents.learning else ONLY_OF_TEACHING)}
    absent |= {name for name in ("compared", "chained", "certified") if getattr(contents, name) is None}
    specifications = _charts(view)
    # In this order in the page: the library (only where there is a chart), then ours.
    scripts = [assets.vega_bundle()] if specifications else []
    scripts = [assets.inline_script(source) for source in (*scripts, *(assets.resource(name) for name in SCRIPTS))]
    page = (
        assets.environment()
        .get_template("page.html")
        .render(
            view,
            navigation=[part for part in NAVIGATION if part[0] not in absent],
            slots=range(12),
            style=Markup("\n".join(assets.resource(name) for name in STYLES)),
            scripts=[Markup(source) for source in scripts],
            script_hashes=Markup(" ".join(assets.script_hash(source) for source in scripts)),
            charts_json=Markup(assets.inline_json(specifications)),
            pictures_json=Markup(assets.inline_json(view["map"].get("pictures", {}))),
            state_json=Markup(assets.inline_json(view["map"].get("state", {}))),
        )
    )
    return page.encode("utf-8", "replace").decode("utf-8")
