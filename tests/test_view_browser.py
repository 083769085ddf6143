"""The pages of `coa.view` in a browser: keys, filters, the masks' switch, and hostile texts.

`make test-full` runs it; without a Chromium on this machine it skips itself.
"""

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from coa.view.app import create_app
from coa.view.masks import Masks
from coa.view.run_files import find_files
from tests.view_support import HOSTILE, write_run

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    files = find_files([(folder / "data").as_posix()])
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(files, Masks(""))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def page(url: str) -> Iterator[Any]:
    """The list of graded trajectories; dialogs and errors of the page are noted."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(60_000)
        alarms: list[str] = []
        page.on("dialog", lambda dialog: (alarms.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: alarms.append(str(error)))
        page.goto(url)
        page.get_by_role("link", name="data/grade.parquet").click()
        page.wait_for_selector("#filters")
        yield page
        assert alarms == []
        browser.close()


def selected(page: Any) -> int:
    """The number of the row that is selected; -1 for none."""
    rows = "[...document.querySelectorAll('tr[data-row]')]"
    found: int = page.evaluate(f"{rows}.findIndex(it => it.classList.contains('selected'))")
    return found


def test_keys_move_open_and_lead_back(page: Any) -> None:
    for key in ("j", "j", "k", "j"):
        page.keyboard.press(key)
    assert selected(page) == 1
    page.keyboard.press("Enter")
    page.wait_for_url("**/row?**q001%2Fcoa%2F0**")
    page.keyboard.press("j")
    page.wait_for_url("**q002%2Fcoa%2F0**")
    page.keyboard.press("n")
    page.keyboard.press("n")
    assert page.locator(".step.current").get_attribute("id") == "step-2"
    page.keyboard.press("c")
    page.wait_for_url("**/compare?**")
    page.go_back()
    page.keyboard.press("l")
    page.wait_for_url("**/behind?**")
    page.keyboard.press("Escape")
    page.wait_for_url("**/row?**")
    page.keyboard.press("Escape")
    page.wait_for_url("**/rows?**")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()


def test_a_filter_acts_when_it_is_chosen_and_stays_while_rows_are_read(page: Any) -> None:
    page.select_option("select[name=mode]", "cot")
    page.wait_for_url("**mode=cot**")
    assert "59 of 179" in page.locator("#count").inner_text()
    page.keyboard.press("/")
    page.keyboard.type("who? 42")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=who**")
    assert "1 of 179" in page.locator("#count").inner_text()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/row?**mode=cot**")
    page.keyboard.press("Escape")
    page.wait_for_url("**/rows?**mode=cot**")
    page.get_by_role("link", name="clear").click()
    page.wait_for_url(lambda url: "mode" not in url)


def test_hostile_text_is_read_as_it_is(page: Any) -> None:
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/row?**")
    thought = page.locator("#step-1 .text").evaluate("it => it.textContent")
    assert thought.replace("\u241b", "\x1b") == f"Look: {HOSTILE} 0"
    assert page.locator("main img, main script, main iframe").count() == 0


def test_the_masks_switch_says_what_it_needs(page: Any) -> None:
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("#masks")
    page.wait_for_load_state("load")  # keys are heard from then on
    page.keyboard.press("m")
    page.wait_for_url("**masks=1**")
    assert "there is no tokenizer" in page.locator("main").inner_text()
