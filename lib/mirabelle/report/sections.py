"""The parts of a page that say what ran: headline figures, provenance, counts and rejects, speed.

Pure; runs on the driver. Each function turns contents into a dict of words, rows and Vega-Lite specifications for the
template of the same name. A manifest may lack any key, and a section that has nothing says so in ``absent``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mirabelle.report import charts, learning, wording
from mirabelle.report.assets import data_uri
from mirabelle.report.contents import ReportContents
from mirabelle.report.wording import mapping, percent, plain, plural, seconds, whole

View = dict[str, Any]

REJECTS_SHOWN = 200
_NAMES = {
    "backbone": "network",
    "cpu": "processor",
    "gpu": "accelerator",
    "images_root": "images",
    "input_px": "input",
    "memory_gib": "memory",
    "weights_digest": "digest of the weights",
    "width": "features",
}
_UNITS = {"input_px": " px", "memory_gib": " GiB", "width": " numbers an image"}
# Long names of one kind, set in a typewriter face.
_CODE = {"output", "images_root", "weights_digest", "layer", "git_revision", "run_id"}


def header(contents: ReportContents) -> View:
    """Title, run, date and warnings."""
    manifest, notes = contents.manifest, list(contents.notes)
    counts = mapping(manifest.get("counts"))
    parts = [counts.get(name) for name in ("listed", "embedded", "rejected", "unchanged")]
    known = [part for part in parts if part is not None and wording.is_number(part)]
    if len(known) == len(parts) and known[0] != sum(known[1:]):
        notes.append(
            f"The counts do not add up: {whole(parts[0])} listed is not {whole(parts[1])} embedded"
            f" + {whole(parts[2])} rejected + {whole(parts[3])} unchanged."
        )
    took, moment = _took(manifest), manifest.get("finished") or manifest.get("started")
    return {
        "title": contents.title,
        "run_id": manifest.get("run_id"),
        "status": manifest.get("status"),
        "date": wording.date(moment) if moment else None,
        "took": None if took is None else seconds(took),
        "notes": notes,
        "version": mapping(manifest.get("versions")).get("mirabelle"),
    }


def _took(manifest: Mapping[str, Any]) -> float | None:
    span = wording.span_seconds(manifest.get("started"), manifest.get("finished"))
    return span if span is not None else sum(wording.numbers(manifest.get("seconds")).values()) or None


def headline(contents: ReportContents) -> list[View]:
    """The figures worth knowing first: a value, its name and a few words each."""
    counts, scree, judged = mapping(contents.manifest.get("counts")), contents.scree, contents.evaluation
    listed, rejected = counts.get("listed"), counts.get("rejected", contents.rejects_total)
    share = rejected / listed if wording.is_number(listed) and wording.is_number(rejected) and listed else None
    moved = [
        f"{whole(counts[name])} {name}" for name in ("new", "changed", "gone") if wording.is_number(counts.get(name))
    ]
    top3 = judged.top3 if judged and wording.is_number(judged.top3) else None
    kept = float(scree.explained_variance_ratio[: scree.components].sum()) if scree else None
    speed, cores = contents.manifest.get("images_per_second"), contents.manifest.get("cores")
    rows = [
        ("images listed", whole(listed), ", ".join(moved)),
        ("embedded", whole(counts.get("embedded")), "got features in this run"),
        ("rejected", whole(rejected), f"{percent(share)} of those listed" if share else ""),
        ("unchanged", whole(counts.get("unchanged")), "had features already"),
        (
            "images a second",
            wording.decimal(speed, 1),
            f"on {plural(cores, 'core')}" if wording.is_number(cores) else "",
        ),
        (
            "components",
            whole(scree.components if scree else None),
            f"of {whole(scree.dimension)}; {percent(kept)} of the variance" if scree else "no PCA yet",
        ),
        (
            "accuracy",
            percent(judged.accuracy if judged else None),
            (f"in the top three: {percent(top3)}" if top3 is not None else "") if judged else "no classifier yet",
        ),
        (
            "macro-F1",
            wording.decimal(judged.macro_f1 if judged else None),
            f"over {plural(len(judged.labels), 'label')}" if judged else "no classifier yet",
        ),
    ]
    if contents.learning:
        # It embedded nothing.
        kept_rows = [row for row in rows if row[0] not in ("embedded", "unchanged", "components")]
        rows = [*kept_rows[:2], *learning.tiles(contents.learning), *kept_rows[2:]]
    return [
        {"name": name, "value": value, "about": about, "alarm": name == "rejected" and bool(share)}
        for name, value, about in rows
    ]


def _facts(values: Mapping[str, Any]) -> list[View]:
    return [
        {
            "name": _NAMES.get(str(key), str(key).replace("_", " ")),
            "value": plain(value) + (_UNITS.get(str(key), "") if value is not None else ""),
            "code": key in _CODE,
        }
        for key, value in values.items()
    ]


def ran(contents: ReportContents) -> View:
    """What ran on what: groups of facts, the fingerprint and the configuration."""
    manifest = contents.manifest

    def some(*keys: str) -> dict[str, Any]:
        return {key: manifest[key] for key in keys if manifest.get(key) is not None}

    embedding, machine = dict(mapping(manifest.get("embedding"))), mapping(manifest.get("machine"))
    engine = some("engine") | {key: embedding.pop(key) for key in ("precision",) if key in embedding}
    if "cores" in manifest:
        engine["cores used"] = manifest["cores"]
    groups = {
        "Embedding": embedding,
        "Machine": engine | dict(machine),
        "Data": some("images_root", "output", "command", "git_revision"),
        "Versions": mapping(manifest.get("versions")),
    }
    shown = [{"name": name, "facts": _facts(values)} for name, values in groups.items() if values]
    config = manifest.get("config")
    fingerprint = manifest.get("fingerprint")
    return {
        "groups": shown,
        "fingerprint": str(fingerprint) if fingerprint else None,
        "config": wording.pretty(config) if config else None,
        "absent": None if shown or fingerprint or config else "This run's manifest does not say what it ran on.",
    }


def rejects(contents: ReportContents) -> View:
    """The balance of the run and the images that got no features."""
    counts = mapping(contents.manifest.get("counts"))
    codes = {code: n for code, n in wording.numbers(contents.manifest.get("rejects_by_code")).items() if n}
    if not codes:
        codes = {code: float(n) for code, n in Counter(reject.code for reject in contents.rejects).items()}
    codes = dict(sorted(codes.items(), key=lambda item: (-item[1], item[0])))
    rows = [
        {
            "path": reject.path,
            "stage": reject.stage,
            "code": reject.code,
            "detail": reject.detail,
            "size": wording.size(reject.size_bytes),
            "image": data_uri(reject.thumbnail),
        }
        for reject in contents.rejects[:REJECTS_SHOWN]
    ]
    total = max(contents.rejects_total, len(contents.rejects))
    texts = {code: whole(n) for code, n in codes.items()}
    return {
        "balance": [
            (name, whole(counts[name])) for name in ("listed", "embedded", "rejected", "unchanged") if name in counts
        ],
        "codes": texts,
        "spec": charts.bars(
            codes, texts, style="length-alarm", description="Rejected images by reason: " + _listed(texts)
        )
        if codes
        else None,
        "rows": rows,
        "total": whole(total),
        "capped": f"The first {whole(len(rows))} of {whole(total)}." if rows and total > len(rows) else None,
        "absent": None if total or codes else "Every image could be read: nothing was rejected.",
    }


def _listed(texts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in texts.items()) + "."


def _spans(values: Mapping[str, float], description: str, style: str = "length") -> View | None:
    total = sum(values.values())
    if not total:
        return None
    texts = {name: f"{seconds(span)} · {percent(span / total, 0)}" for name, span in values.items()}
    return {
        "spec": charts.bars(values, texts, description=f"{description}: {_listed(texts)}", style=style),
        "rows": [(name, seconds(span), percent(span / total, 0)) for name, span in values.items()],
        "total": seconds(total),
        "most": max(values, key=lambda name: values[name]),
        "share": percent(max(values.values()) / total, 0),
    }


def speed(contents: ReportContents) -> View:
    """Where the time went: seconds by the clock by stage, and what the workers did with theirs."""
    manifest = contents.manifest
    rate = manifest.get("images_per_second")
    clock = _spans(wording.numbers(manifest.get("seconds")), "Seconds by the clock by stage")
    work = {name.replace("_", " "): span for name, span in wording.numbers(manifest.get("worker_seconds")).items()}
    counts = wording.mapping(manifest.get("counts"))
    decoded = wording.numbers({"seconds": manifest.get("decode_core_seconds"), "rows": counts.get("model_rows")})
    decoding_ms = 1000 * decoded["seconds"] / decoded["rows"] if len(decoded) == 2 and decoded["rows"] else None
    return {
        "clock": clock,
        "work": _spans(work, "Seconds of the workers", "length-second"),
        "decoding_ms": None if decoding_ms is None else wording.decimal(decoding_ms, 2),
        "rate": wording.decimal(rate, 1) if wording.is_number(rate) else None,
        "absent": None if clock or sum(work.values()) else "This run's manifest holds no timings.",
    }
