"""The page in a real browser: charts are drawn, pictures show, tables sort, nothing overflows, nothing breaks out.

Needs chromium and chromedriver on the PATH; skipped without them. Nothing is downloaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browsers import WANTED, seen_at, started, wait
from mirabelle.report import ReportContents, render

pytestmark = [pytest.mark.slow, WANTED]

CHARTS = ["chart-rejects", "chart-components", "chart-map", "chart-confusion", "chart-clock", "chart-work"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with started(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def view_at(driver: Any, page: Path, width: int, dark: bool = False) -> None:
    """Open ``page`` in a window of ``width`` px; a narrow one is a phone with a touch screen."""
    seen_at(driver, width, dark)
    driver.get(page.as_uri())
    wait(driver, "document.documentElement.dataset.drawn")


def point_on_screen(driver: Any, index: int) -> tuple[int, int]:
    """Scroll the map into sight and say where one of its points is in the window."""
    x, y = driver.execute_script(
        """
        const view = mirabelle.drawn["chart-map"].view, canvas = document.querySelector("#chart-map canvas");
        canvas.scrollIntoView({block: "center", behavior: "instant"});
        const point = mirabelle.read("charts")["chart-map"].datasets.points[arguments[0]];
        const box = canvas.getBoundingClientRect(), [left, top] = view.origin();
        return [box.left + left + view.scale("x")(point.x), box.top + top + view.scale("y")(point.y)];
        """,
        index,
    )
    time.sleep(0.2)  # the scroll hides the card; let it end first
    return round(x), round(y)


def move_to(driver: Any, x: int, y: int, click: bool = False) -> None:
    mouse = {"x": x, "y": y, "pointerType": "mouse"}
    driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", **mouse})
    for kind in ("mousePressed", "mouseReleased") if click else ():
        driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, "button": "left", "clickCount": 1, **mouse})


def touch(driver: Any, *path: tuple[int, int]) -> None:
    """Put a finger down, draw it along ``path`` and lift it."""
    for kind, place in zip(["touchStart"] + ["touchMove"] * len(path), path, strict=False):
        points = [{"x": place[0], "y": place[1]}]
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        time.sleep(0.02)
    driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@pytest.fixture(scope="module")
def pages(make_contents: Callable[..., ReportContents], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder, made = tmp_path_factory.mktemp("report"), {}
    for classes in (12, 60):
        made[classes] = folder / f"{classes}.html"
        made[classes].write_text(render(make_contents(classes, 20 * classes)), encoding="utf-8")
    return made


@pytest.fixture(params=[(12, 1280), (12, 375), (60, 1280), (60, 375)], ids=lambda it: f"{it[0]}-classes-{it[1]}px")
def opened(request: pytest.FixtureRequest, browser: Any, pages: dict[int, Path]) -> tuple[Any, int, int]:
    """The browser with a page open: driver, classes, width."""
    classes, width = request.param
    view_at(browser, pages[classes], width, dark=classes == 60)
    return browser, classes, width


def test_the_page_is_whole_and_nothing_breaks_out(opened: tuple[Any, int, int]) -> None:
    from selenium.common.exceptions import NoAlertPresentException

    driver, _, width = opened
    sizes = driver.execute_script(
        """
        return Object.fromEntries([...document.querySelectorAll(".chart")].map(chart => {
          const box = chart.querySelector("svg, canvas")?.getBoundingClientRect();
          const marks = chart.querySelectorAll(".mark-rect path, .mark-line path, .mark-area path").length;
          return [chart.id, [box?.width ?? 0, box?.height ?? 0, marks]];
        }))
        """
    )
    assert sorted(sizes) == sorted(CHARTS)
    for name, (wide, high, marks) in sizes.items():
        assert wide > 200, name
        assert high > 50, name
        assert marks > 0 or name == "chart-map", name
    inked = """
        const canvas = document.querySelector("#chart-map canvas");
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return pixels.some((value, i) => i % 4 === 3 && value > 0)
    """
    assert driver.execute_script(inked)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.execute_script("return document.body.scrollWidth") <= width
    assert driver.execute_script("return window.pwned === undefined && document.querySelector('#x') === null")
    assert driver.execute_script("return [...document.images].every(image => image.src.startsWith('data:image/'))")
    assert driver.execute_script("return performance.getEntriesByType('resource').every(e => !/^http/.test(e.name))")
    with pytest.raises(NoAlertPresentException):
        _ = driver.switch_to.alert.text
    assert driver.get_log("browser") == []


def test_a_point_shows_its_picture(opened: tuple[Any, int, int]) -> None:
    driver, _, width = opened
    x, y = point_on_screen(driver, 1)
    if width < 500:
        touch(driver, (x, y))
    else:
        move_to(driver, x, y)
    wait(driver, "!document.getElementById('card').hidden")
    wait(driver, "document.querySelector('#card img')?.naturalWidth > 0")
    box = driver.execute_script("return document.getElementById('card').getBoundingClientRect().toJSON()")
    assert box["left"] >= 0
    assert box["right"] <= width
    shown = driver.execute_script("return document.querySelector('#card strong').textContent")
    assert shown in driver.execute_script("return mirabelle.read('pictures').labels")
    assert driver.execute_script("return document.querySelectorAll('#card script, #card svg').length") == 0
    assert driver.get_log("browser") == []


def slots(driver: Any) -> list[int]:
    found: list[int] = driver.execute_script("return mirabelle.drawn['chart-map'].view.signal('slots')")
    return found


def test_labels_are_lit_from_the_key_and_from_the_map(opened: tuple[Any, int, int]) -> None:
    driver, classes, width = opened
    assert len([slot for slot in slots(driver) if slot >= 0]) == (12 if classes == 12 else 6)
    if classes > 12:
        driver.execute_script("document.getElementById('key-clear').click()")
        wait(driver, "mirabelle.drawn['chart-map'].view.signal('slots').every(slot => slot < 0)")
    driver.execute_script("document.querySelectorAll('.labels button')[3].click()")
    assert [label for label, slot in enumerate(slots(driver)) if slot >= 0] == [3]
    if width > 500:
        label = driver.execute_script("return mirabelle.read('charts')['chart-map'].datasets.points[1].l")
        x, y = point_on_screen(driver, 1)
        move_to(driver, x, y, click=True)
        nearest = driver.execute_script("return document.querySelector('#card strong').textContent")
        pressed = driver.execute_script(
            "return [...document.querySelectorAll('.labels [aria-pressed=true] bdi')].map(name => name.textContent)"
        )
        assert nearest in pressed
        assert label >= 0
    driver.execute_script("document.getElementById('key-clear').click()")
    assert len([slot for slot in slots(driver) if slot >= 0]) == (12 if classes == 12 else 0)


def test_labels_can_be_found_by_name(browser: Any, pages: dict[int, Path]) -> None:
    from selenium.webdriver.common.by import By

    view_at(browser, pages[60], 1280)
    browser.find_element(By.ID, "key-search").send_keys("kind 5")
    shown = """
        return [...document.querySelectorAll(".labels li")].filter(item => !item.hidden)
          .map(item => item.querySelector("bdi").textContent)
    """
    assert sorted(browser.execute_script(shown)) == [f"Kind {i}" for i in range(50, 60)]
    browser.find_element(By.ID, "key-search").send_keys(" nowhere")
    assert browser.find_element(By.ID, "key-none").is_displayed()


def test_zoom_pictures_and_splits(browser: Any, pages: dict[int, Path]) -> None:
    view_at(browser, pages[12], 1280)
    domain = "mirabelle.drawn['chart-map'].view.scale('x').domain()"
    first = browser.execute_script(f"return {domain}")
    browser.execute_script("document.querySelector('[data-zoom=in]').click()")
    wait(browser, f"Math.abs({domain}[1] - {domain}[0]) < {0.7 * (first[1] - first[0])}")
    wait(browser, "document.getElementById('chart-map').classList.contains('zoomed')")
    browser.execute_script("document.querySelector('[data-zoom=reset]').click()")
    wait(browser, f"Math.abs({domain}[0] - {first[0]}) < 1e-9")
    browser.execute_script("document.querySelector('[data-draw=pictures]').click()")
    browser.execute_script("document.querySelector('[data-part=test]').click()")
    wait(browser, "mirabelle.drawn['chart-map'].view.signal('part') === 'test'")
    assert browser.execute_script("return mirabelle.drawn['chart-map'].view.signal('pictures')")
    assert browser.get_log("browser") == []


def test_a_finger_scrolls_the_page_and_drags_a_zoomed_map(browser: Any, pages: dict[int, Path]) -> None:
    view_at(browser, pages[12], 375)
    domain = "return mirabelle.drawn['chart-map'].view.scale('x').domain()"

    def drag(across: int, down: int) -> tuple[float, list[float]]:
        """How far the page scrolled, and where the map then is."""
        x, y = point_on_screen(browser, 1)
        before = browser.execute_script("return scrollY")
        touch(browser, *((x + across * i, y + down * i) for i in range(12)))
        time.sleep(0.5)
        return browser.execute_script("return scrollY") - before, browser.execute_script(domain)

    home = browser.execute_script(domain)
    scrolled, there = drag(0, -10)
    assert scrolled > 50
    assert there == home
    browser.execute_script("document.querySelector('[data-zoom=in]').click()")
    wait(browser, "document.getElementById('chart-map').classList.contains('zoomed')")
    zoomed = browser.execute_script(domain)
    scrolled, there = drag(-8, 0)
    assert scrolled == 0
    assert there[0] > zoomed[0]
    assert there[1] - there[0] == pytest.approx(zoomed[1] - zoomed[0])


def test_tables_sort(opened: tuple[Any, int, int]) -> None:
    driver, classes, _ = opened
    column = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => row.cells[{}].dataset.value)"

    def click(heading: int) -> list[float]:
        driver.execute_script(f"document.querySelectorAll('table.sortable thead button')[{heading}].click()")
        return [float(value) for value in driver.execute_script("return " + column.format(heading))]

    at_first = [float(value) for value in driver.execute_script("return " + column.format(3))]
    assert len(at_first) == classes
    assert at_first == sorted(at_first)
    assert at_first[0] < at_first[-1]
    up, down = click(1), click(1)
    assert up == sorted(up)
    assert down == sorted(up, reverse=True)
    state = "return document.querySelectorAll('table.sortable th[scope=col]')[1].getAttribute('aria-sort')"
    assert driver.execute_script(state) == "descending"


def test_cells_of_the_confusion_matrix_tell_what_they_are(
    browser: Any, pages: dict[int, Path], hostile: tuple[str, ...]
) -> None:
    view_at(browser, pages[12], 1280)
    x, y = browser.execute_script(
        """
        const marks = [...document.querySelectorAll("#chart-confusion .mark-rect path")];
        const cell = marks.find(mark => mark.getAttribute("aria-label")?.endsWith(": 1"));
        cell.scrollIntoView({block: "center", behavior: "instant"});
        const box = cell.getBoundingClientRect();
        return [box.x + 3, box.y + 3];
        """
    )
    time.sleep(0.2)
    move_to(browser, round(x), round(y))
    wait(browser, "!document.getElementById('card').hidden")
    told = browser.execute_script("return [...document.querySelectorAll('#card b')].map(part => part.textContent)")
    # Label 1 has 1 of its 20 images taken for label 2.
    assert told == [hostile[1], hostile[2], "1", "5.0% of 20"]
    assert browser.execute_script("return document.querySelector('#card img, #card script')") is None


def test_light_and_dark_differ_and_follow_the_system(browser: Any, pages: dict[int, Path]) -> None:
    view_at(browser, pages[12], 1280)
    colours = (
        "[getComputedStyle(document.body).backgroundColor,"
        " document.querySelector('#chart-clock .mark-text text').getAttribute('fill')]"
    )
    light = browser.execute_script(f"return {colours}")
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    wait(browser, f"JSON.stringify({colours}[1]) !== JSON.stringify('{light[1]}')")
    assert browser.execute_script(f"return {colours}")[0] != light[0]


@pytest.mark.parametrize("labels", [2, 130])
@pytest.mark.parametrize("width", [390, 1280])
def test_an_exploration_fits_and_loads_nothing(browser: Any, labels: int, width: int, tmp_path: Path) -> None:
    import pandas as pd

    from mirabelle.report.exploration import Shown, render_exploration

    names = [f"{'A very long name of an airline' if n % 7 == 0 else 'label'} {n}" for n in range(labels)]
    names[0] = "<script>alert(1)</script>" + "x" * 80
    values = pd.DataFrame({"value": names, "images": range(labels), "share": 0.5, "rank": 1, "cumulative_share": 1.0})
    paths = pd.DataFrame({"images": [2], "paths": [[f"/a/long/folder/{'n' * 60}.jpg", "/b.jpg"]]})
    tables = [Shown("values_label", "Values of label", "A word.", values, "share"), Shown("d", "Same", "x", paths)]
    page = tmp_path / "index.html"
    page.write_text(render_exploration("Planes", [("images", "1", "a")], tables, 20, "run"), encoding="utf-8")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("browser")
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelectorAll('script').length") == 0
    shown = browser.execute_script("return document.querySelectorAll('#values_label tbody tr').length")
    assert shown == min(20, labels)
    assert ("and 110 more" in page.read_text()) == (labels == 130)
    assert names[0][:20] in browser.execute_script("return document.querySelector('#values_label tbody').textContent")
    is_beside = browser.execute_script("return getComputedStyle(document.querySelector('.side')).display != 'none'")
    assert is_beside == (width == 1280)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert loaded == []
