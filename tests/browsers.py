"""A real browser without a window, for the tests of pages. Nothing is downloaded."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
WANTED = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not both on the PATH")
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@contextmanager
def started(profile: Path) -> Iterator[Any]:
    """Chromium with its profile in a folder, which keeps what a page says to its console."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=DRIVER))
    yield driver
    driver.quit()


def wait(driver: Any, script: str, seconds: float = 30) -> Any:
    """Run ``return <script>`` until it is true."""
    end = time.monotonic() + seconds
    while not (found := driver.execute_script(f"return {script}")):
        assert time.monotonic() < end, f"never became true: {script}"
        time.sleep(0.05)
    return found


def seen_at(driver: Any, width: int, dark: bool = False) -> None:
    """Show pages in a window of ``width`` px from now on, a narrow one as a phone with a touch screen does."""
    phone = width < 500
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    # What earlier pages said counts no more.
    driver.get_log("browser")
