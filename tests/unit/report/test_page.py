"""Contents to one HTML page: what it says, what it refuses to load, what cannot get out of its place."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mirabelle.report
from mirabelle.report import (
    Certified,
    Evaluation,
    Neighbours,
    Picture,
    Reject,
    ReportContents,
    Scatter,
    Scree,
    render,
    results,
)
from mirabelle.report.assets import data_uri, inline_json, inline_script
from mirabelle.report.page import NAVIGATION

pytestmark = pytest.mark.slow

Make = Callable[..., ReportContents]


class Page(HTMLParser):
    """Tags with their attributes, scripts, styles, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.text = self.style = ""
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag == "script":
            self.scripts.append((found, ""))
        self._inside.append(tag)
        self.text += " "

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self._inside:
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))
        elif "style" in self._inside:
            self.style += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def json(self, name: str) -> Any:
        return json.loads(next(text for attributes, text in self.scripts if attributes.get("id") == name))


def words(text: str) -> str:
    return " ".join(text.replace("\u202f", " ").split())


@pytest.fixture(scope="module")
def page(make_contents: Make) -> Page:
    return Page(render(make_contents()))


@pytest.fixture(scope="module")
def empty(empty_contents: ReportContents) -> Page:
    return Page(render(empty_contents))


def test_the_figures_worth_knowing_are_there(page: Page) -> None:
    text = words(page.text)
    for told in (
        "images listed 5,100",
        "embedded 5,000",
        "rejected 3",
        "unchanged 97",
        "images a second 26.4",
        "components 61",
    ):
        assert told in text, told
    # 20 images of 12 labels, of which 0+1+2+3+4 twice and 0+1 are wrong: 219 of 240 are right.
    assert "accuracy 91.2 %" in text
    assert "got 219 of 240 test images right" in text
    assert "5,100 listed = 5,000 embedded + 3 rejected + 97 unchanged" in text
    assert "took 3 min 14 s" in text
    assert "21 November 2026, 21:45 UTC" in text
    assert "A sample of 240 of 5,000 images" in text
    assert "The weights are random: these features mean nothing." in text
    assert "ab" * 32 in text
    assert "Made by Mirabelle 0.1.0" in text
    assert "frames of one object sit on both sides" in text
    assert "waiting for store" in text
    assert "Decoding a picture took 6.50 ms of a core" in text


def test_counts_that_do_not_add_up_are_a_warning(make_contents: Make) -> None:
    counts = {"listed": 10, "embedded": 5, "rejected": 3, "unchanged": 1}
    text = words(Page(render(make_contents(manifest={"counts": counts}))).text)
    assert "10 listed is not 5 embedded + 3 rejected + 1 unchanged" in text


def test_hostile_text_is_shown_and_stays_text(page: Page, hostile: tuple[str, ...]) -> None:
    assert hostile[0] in page.text
    assert hostile[1] in page.text
    assert "</pre><script>window.pwned=1</script>" in page.text
    assert "49" not in words(page.text).split()
    tags = {name for name, _ in page.tags}
    assert not tags & {"iframe", "object", "embed", "base", "link", "form", "video", "audio"}
    assert page.text.count("alert(1)") >= 3
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert len(page.scripts) == 6
    assert page.json("pictures")["labels"][:2] == list(hostile[:2])


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), attributes
    assert not page.all("link")
    assert "font-family: var(--serif)" in page.style
    assert "url(" not in page.style
    assert "@import" not in page.style


def test_the_policy_names_exactly_the_scripts_of_the_page(page: Page) -> None:
    policy = next(tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    hashes = set(re.findall(r"'sha256-([^']+)'", policy))
    scripts = [text for attributes, text in page.scripts if "type" not in attributes]
    assert hashes == {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts}
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy


def test_absent_parts_say_why(empty: Page) -> None:
    text = words(empty.text)
    assert text.count("No PCA has been fitted in this output yet: mirabelle reduce") == 3
    assert "No classifier has been trained in this output yet: mirabelle train" in text
    assert "nothing was rejected" in text
    assert "holds no timings" in text
    assert "does not say what it ran on" in text
    headings = [tag.get("id") for tag in empty.all("h2")]
    # Nothing was taught, and there is nothing to compare.
    left_out = ("learning", "compared", "chained", "certified")
    assert headings == [f"{name}-heading" for name, _ in NAVIGATION if name not in left_out]
    assert len(headings) == 7
    assert empty.json("charts") == {}


def test_what_speed_cost_is_a_table_with_the_pages_own_row_marked(empty_contents: ReportContents) -> None:
    told = Certified(
        id="20260101T000000Z-1",
        pictures=480,
        listed=12_000,
        machine="2 cores of <b>a CPU</b>",
        head=("cosine", "images/s"),
        rows=(("Keras, float32, exact", "", "9.1"), ("int8, fast", "0.9967", "98.5")),
        about="angles are those of the first 7 principal components",
        left_out=("bf16 is left out: this CPU does not compute it natively",),
        taken="int8, fast",
    )
    page = Page(render(replace(empty_contents, certified=told)))
    text = words(page.text)
    assert "on 480 of 12,000 images" in text
    assert "int8, fast (these features) 0.9967 98.5" in text
    assert "Keras, float32, exact 9.1" in text
    assert "Angles are those of the first 7 principal components." in text
    assert "bf16 is left out" in text
    assert "2 cores of <b>a CPU</b>" in text
    assert "certified-heading" in [tag.get("id") for tag in page.all("h2")]
    # Of other features none of the rows is the page's own.
    other = Page(render(replace(empty_contents, certified=replace(told, taken=None))))
    assert "(these features)" not in other.text


def test_neighbours_that_nobody_asked_for_are_said_to_be_absent(make_contents: Make) -> None:
    assert "No neighbours were looked up for this report." in words(Page(render(make_contents(neighbours=[]))).text)


def test_without_charts_the_library_is_left_out(empty_contents: ReportContents) -> None:
    assert len(render(empty_contents)) < 60_000


@pytest.mark.parametrize(
    "manifest",
    [
        {"counts": None, "seconds": [], "versions": "4", "embedding": 3, "machine": None, "config": None},
        {"counts": {"listed": 0, "rejected": 0}, "started": "soon", "finished": 7, "images_per_second": "fast"},
        {"rejects_by_code": {"truncated": 0}, "seconds": {"embed": 0}, "cores": None, "embedding": {"input_px": None}},
        {"config": {"when": object, "nested": {"deep": [1, {"x": None}]}}},
    ],
)
def test_an_odd_manifest_is_no_error(empty_contents: ReportContents, manifest: dict[str, Any]) -> None:
    assert "<h1>Nothing yet</h1>" in render(replace(empty_contents, manifest=manifest))


def test_long_lists_are_capped_and_the_total_is_said(make_contents: Make) -> None:
    rejects = [Reject(f"s3://b/{i}", "decode", "corrupt", "", i, None) for i in range(500)]
    image = Picture("p", "a", None)
    many = [Neighbours(image, [(image, 0.5)] * 30)] * 40
    page = Page(render(make_contents(rejects=rejects, rejects_total=9876, neighbours=many)))
    text = words(page.text)
    assert "9,876 in all. The first 200 of 9,876." in text
    assert "s3://b/199" in text
    assert "s3://b/200" not in text
    assert "The first 24 of 40." in text
    assert text.count("0.500") == 24 * 10


def test_neighbours_with_another_label_are_marked(make_contents: Make) -> None:
    one, other, none = (Picture(label or "-", label, None) for label in ("one", "other", None))
    page = Page(render(make_contents(neighbours=[Neighbours(one, [(one, 0.9), (other, 0.8), (none, 0.7)])])))
    assert len([tag for tag in page.all("li") if tag.get("class") == "other"]) == 1
    assert "1 of 2 neighbours bear the label of their query" in words(page.text)


def test_labels_stand_worst_first(make_contents: Make) -> None:
    evaluation = Evaluation(
        labels=["fine", "poor", "unknown"],
        confusion=np.array([[9, 1, 0], [4, 6, 0], [0, 0, 0]]),
        accuracy=0.75,
        top3=float("nan"),
        macro_f1=0.5,
        precision=np.array([9 / 13, 6 / 7, np.nan]),
        recall=np.array([0.9, 0.6, np.nan]),
        f1=np.array([0.78, 0.71, np.nan]),
        support=np.array([10, 10, 0]),
        estimator="e",
        features="f",
        split="s",
        train_rows=1,
        test_rows=20,
    )
    text = words(Page(render(make_contents(evaluation=evaluation, confused=[]))).text)
    table = text[text.index("Click a heading") :]
    assert table.index("unknown") < table.index("poor") < table.index("fine")
    assert "poor 0.857 0.600 0.710 10" in table
    assert "No pairs were picked out" in text
    # Four of poor's ten and one of fine's ten.
    assert "poor fine 4 40.0 % fine poor 1 10.0 %" in text


@pytest.mark.parametrize("places", [np.zeros((0, 2)), np.full((3, 2), np.nan), np.zeros((3, 2))])
def test_a_map_of_little_is_no_error(make_contents: Make, places: np.ndarray[Any, Any]) -> None:
    pictures = [Picture(f"p{i}", None, None) for i in range(len(places))]
    html = render(make_contents(scatter=Scatter(pictures, places, [None] * len(places), len(places))))
    assert 'id="map"' in html


def test_a_page_with_2000_pictures_stays_under_8_mb(make_contents: Make, make_picture: Callable[..., bytes]) -> None:
    heavy = [make_picture(i, 96, "PNG") for i in range(4)]  # noise as PNG: some 20 kB each
    pictures = [Picture(f"p{i}", str(i % 60), heavy[i % 4]) for i in range(2000)]
    contents = make_contents(
        60, scatter=Scatter(pictures, np.random.default_rng(0).normal(size=(2000, 2)), [None] * 2000, 2000)
    )
    html = render(contents)
    assert len(html.encode()) < 8_000_000
    page = Page(html)
    shown = [image for image in page.json("pictures")["images"] if image]
    assert 0 < len(shown) < 2000
    assert f"{2000 - len(shown):,} points show no picture" in words(page.text)
    assert sum(map(len, shown)) <= results.MAP_CHARACTERS


def test_the_same_contents_give_the_same_page(make_contents: Make) -> None:
    assert render(make_contents()) == render(make_contents())


def test_paths_that_are_no_utf8_can_be_written(make_contents: Make) -> None:
    broken = "s3://b/\udc80.jpg"
    html = render(make_contents(rejects=[Reject(broken, "fetch", "missing", broken, None, None)], title=broken))
    assert "s3://b/?.jpg" in html
    html.encode("utf-8")


def test_json_cannot_end_its_element(hostile: tuple[str, ...]) -> None:
    text = inline_json({label: label for label in hostile})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {label: label for label in hostile}
    with pytest.raises(ValueError, match="JSON compliant"):
        inline_json(float("nan"))


def test_a_script_cannot_end_its_element() -> None:
    source = 'a = "</script>"; b = "</SCRIPT >"; c = "<!--"; d = x<y;'
    assert inline_script(source) == r'a = "\x3c/script>"; b = "\x3c/SCRIPT >"; c = "\x3c!--"; d = x<y;'


def test_only_pictures_become_pictures(make_picture: Callable[..., bytes]) -> None:
    for form, kind in (("WEBP", "webp"), ("PNG", "png"), ("JPEG", "jpeg")):
        encoded = make_picture(1, 8, form)
        assert data_uri(encoded) == f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"
    assert data_uri(None) is None
    assert data_uri(b"") is None
    assert data_uri(b"<svg onload=alert(1)>") is None


def test_contents_that_do_not_go_together_are_refused(make_contents: Make) -> None:
    with pytest.raises(ValueError, match="components kept of 2"):
        Scree(np.array([0.5, 0.5]), 3, None, 10)
    with pytest.raises(ValueError, match="not \\(d,\\)"):
        Scree(np.ones((2, 2)), 1, None, 10)
    with pytest.raises(ValueError, match="for 1 pictures"):
        Scatter([Picture("p", None, None)], np.zeros((2, 2)), [None], 1)
    evaluation = make_contents().evaluation
    assert evaluation
    with pytest.raises(ValueError, match="confusion has shape"):
        Evaluation(**{**vars(evaluation), "confusion": np.zeros((3, 3), dtype=int)})
    with pytest.raises(ValueError, match="precision has shape"):
        Evaluation(**{**vars(evaluation), "precision": np.zeros(3)})


def test_importing_the_report_imports_nothing_heavy() -> None:
    heavy = "{'altair', 'vl_convert', 'jinja2', 'pandas', 'pyspark'}"
    code = f"import sys, mirabelle.report; print(sorted({heavy} & set(sys.modules)))"
    assert run(code).strip() == "[]"


def test_the_page_is_made_from_a_zip_too(tmp_path: Path) -> None:
    package = Path(mirabelle.report.__file__).parent
    with zipfile.ZipFile(tmp_path / "mirabelle.zip", "w") as archive:
        archive.writestr("mirabelle/__init__.py", "")
        for file in package.iterdir():
            if file.is_file():
                archive.write(file, f"mirabelle/report/{file.name}")
    code = (
        "import mirabelle.report as r; assert '.zip' in r.__file__;"
        "print(r.render(r.ReportContents('Zipped', {}, [], 0, None, None, [], None, [], []))[:900])"
    )
    assert "<title>Zipped · Mirabelle</title>" in run(code, tmp_path / "mirabelle.zip")


def run(code: str, path: Path | None = None) -> str:
    """Run a program in a fresh Python that finds mirabelle at ``path``, or where it is found here."""
    where = str(path or Path(mirabelle.report.__file__).parents[2])
    program = f"import sys; sys.path.insert(0, {where!r}); {code}"
    # Coverage would count the zip's copy of the package as a second one.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return subprocess.run(
        [sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True, env=unmeasured
    ).stdout
