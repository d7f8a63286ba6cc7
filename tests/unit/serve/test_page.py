"""The page and the documentation in a real browser: a picture is chosen, dropped or pasted, and answered.

Needs chromium and chromedriver on the PATH; skipped without them. Nothing is downloaded.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsers import WANTED, seen_at, started, wait

from .conftest import Asked, Serve, picture

pytestmark = [pytest.mark.slow, WANTED]

TOKEN = "0123456789abcdefgh"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with started(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def view(driver: Any, one: Asked, path: str = "/", width: int = 1280, dark: bool = False) -> None:
    seen_at(driver, width, dark)
    driver.get(f"{one.url}{path}")
    if path == "/":
        wait(driver, "document.documentElement.dataset.ready")


def choose(driver: Any, *paths: Path) -> None:
    from selenium.webdriver.common.by import By

    driver.find_element(By.ID, "files").send_keys("\n".join(map(str, paths)))


def texts(driver: Any, selector: str) -> list[str]:
    found: list[str] = driver.execute_script(
        f"return [...document.querySelectorAll({selector!r})].map(it => it.textContent.trim())"
    )
    return found


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "<b>red & round.png"
    path.write_bytes(picture((200, 100, 50), (64, 48)))
    return path


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, False), (375, True)])
def test_a_chosen_photograph_is_answered(browser: Any, server: Asked, photograph: Path, width: int, dark: bool) -> None:
    view(browser, server, width=width, dark=dark)
    choose(browser, photograph)
    wait(browser, "document.querySelector('.near li')")
    assert texts(browser, ".card h2") == ["red"]
    assert texts(browser, ".card figcaption") == ["<b>red & round.png"]
    assert texts(browser, ".card tbody th") == ["red", "green", "blue"]
    # 201, 101 and 51 of 353.
    assert texts(browser, ".card tbody td:last-child") == ["56.9 %", "28.6 %", "14.4 %"]
    assert texts(browser, ".near li")[0].startswith("red")
    assert texts(browser, "#status") == ["red, 56.9 %"]
    assert browser.execute_script("return document.querySelector('.shown').naturalWidth") == 64
    assert "red" in browser.execute_script("return document.querySelector('.shown').alt")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelectorAll('.card b').length") == 0
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(it => it.name)")
    assert all(name.startswith((f"{server.url}/", "blob:", "data:")) for name in loaded), loaded
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []


def test_what_the_network_looked_at_is_laid_over_the_picture(browser: Any, server: Asked, photograph: Path) -> None:
    from selenium.webdriver.common.by import By

    view(browser, server)
    choose(browser, photograph)
    wait(browser, "document.querySelector('.look') && !document.querySelector('.look').hidden")
    heat = browser.find_element(By.CSS_SELECTOR, ".heat")
    assert not heat.is_displayed()
    browser.find_element(By.CSS_SELECTOR, ".look input").click()
    assert heat.is_displayed()
    assert browser.execute_script("return document.querySelector('.heat').naturalWidth") == 8


def test_several_are_answered_and_a_bad_one_says_why(browser: Any, server: Asked, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    good.write_bytes(picture((1, 2, 200)))
    bad.write_bytes(b"<!doctype html>")
    view(browser, server)
    choose(browser, good, bad)
    wait(browser, "document.querySelectorAll('.card').length === 2")
    wait(browser, "!document.querySelector('#answers').hasAttribute('aria-busy')")
    first, second = texts(browser, ".card h2")
    assert "not_an_image" in first
    assert second == "blue"
    assert browser.execute_script("return document.querySelector('#status').classList.contains('wrong')")
    # What the browser cannot show either takes no place.
    wait(browser, "document.querySelector('.refused .picture').hidden")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_can_be_dropped_and_pasted(browser: Any, server: Asked, way: str) -> None:
    view(browser, server)
    encoded = base64.b64encode(picture((5, 200, 50))).decode()
    browser.execute_script(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "green.png", {type: "image/png"}));
        const event = arguments[1] === "drop"
          ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
          : new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true});
        document.body.dispatchEvent(event);
        """,
        encoded,
        way,
    )
    wait(browser, "document.querySelector('.card h2')")
    assert texts(browser, ".card h2") == ["green"]


def test_all_can_be_done_with_the_keyboard(browser: Any, server: Asked) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    view(browser, server)
    reached = []
    for _ in range(6):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(browser.execute_script("return document.activeElement.id || document.activeElement.className"))
    assert reached[:4] == ["skip", "files", "camera", "example"]
    browser.execute_script("document.getElementById('example').focus()")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait(browser, "document.querySelector('.card h2')")
    # Every control has a name, and so has every part of the page.
    nameless = """
        return [...document.querySelectorAll("input, button, a, section, img")].filter(it =>
          !it.closest("[hidden]") && !it.labels?.length && !it.textContent.trim()
          && !it.ariaLabel && !it.hasAttribute("alt")
        ).map(it => it.outerHTML)
    """
    assert browser.execute_script(nameless) == []
    contrast = "return getComputedStyle(document.querySelector('.button')).backgroundColor"
    assert browser.execute_script(contrast) == "rgb(221, 157, 28)"


def test_a_server_with_tokens_asks_for_one(browser: Any, serve: Serve, photograph: Path) -> None:
    from selenium.webdriver.common.by import By

    one = serve(tokens=TOKEN)
    view(browser, one)
    assert not browser.find_element(By.ID, "locked").is_displayed()
    choose(browser, photograph)
    wait(browser, "!document.getElementById('locked').hidden")
    assert texts(browser, ".card h2") == []
    field = browser.find_element(By.ID, "token")
    field.send_keys("wrong-token-0123456\n")
    wait(browser, "document.getElementById('status').textContent.includes('does not know')")
    field.clear()
    field.send_keys(f"{TOKEN}\n")
    wait(browser, "document.querySelector('.card h2')")
    assert texts(browser, ".card h2") == ["red"]
    assert browser.execute_script("return Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0


@pytest.mark.parametrize("width", [1280, 375])
def test_the_documentation_fits_and_needs_no_script(browser: Any, server: Asked, width: int) -> None:
    view(browser, server, "/docs", width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.scripts.length") == 0
    assert any("/v1/predict" in heading for heading in texts(browser, "h2"))
    assert browser.get_log("browser") == []
