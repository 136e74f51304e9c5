"""A real Chromium, and people who use the page in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.databases import Databases
from tests.support.people import PASSWORD
from tests.support.server import Server

OpenPage = Callable[..., Page]

#: Chromium tells its makers nothing during tests, and needs no GPU. As root it has no sandbox.
ARGUMENTS = [
    "--disable-gpu",
    "--disable-dev-shm-usage",  # a small /dev/shm, as containers have it, crashes pages at random
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
]

#: Screenshots of each test's pages are left here, for people to look at.
OUTPUT = Path(__file__).parents[1] / "output"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    installed = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    path = next((found for found in installed if found), None)  # else Playwright's own
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        yield running


@pytest.fixture
def open_page(
    browser: Browser, server: Server, request: pytest.FixtureRequest
) -> Iterator[OpenPage]:
    """Opens the page for somebody; fails the test if the page has an error of its own."""
    pages: list[Page] = []
    errors: list[str] = []

    def open_(*, width: int = 1000, locale: str = "en-US", url: str = server.url) -> Page:
        server.start()  # a test that has failed may have left it stopped
        context = browser.new_context(viewport={"width": width, "height": 700}, locale=locale)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda sent: None if local(sent.url) else errors.append(sent.url))
        page.on(
            "console",
            lambda message: (
                errors.append(message.text) if "Content Security Policy" in message.text else None
            ),
        )
        page.goto(url)
        pages.append(page)
        return page

    yield open_
    OUTPUT.mkdir(exist_ok=True)
    for number, page in enumerate(pages):
        page.screenshot(path=OUTPUT / f"{request.node.name}-{number}.png")
        page.context.close()
    assert errors == []


def local(url: str) -> bool:
    """Whether a request stays on this machine."""
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def register(page: Page, name: str, password: str = PASSWORD) -> None:
    page.fill("#username", name)
    page.fill("#password", password)
    page.click("button[value=register]")
    expect(page.locator("#talk")).to_be_visible()


def say(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")
