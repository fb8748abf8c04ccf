"""A real Chromium that looks at real servers with simulated engines. One browser for all tests of a file."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.whole.server import Server, serve

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the dashboard is NOT TESTED: pip install playwright (or `pip install -e .[test]`)"
)

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
LIVE = "#link[data-state=live]"


@dataclass
class Seen:
    """A page, with all that it asked for and all that went wrong in it."""

    page: "playwright.Page"
    urls: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def row(self, model: str) -> "playwright.Locator":
        return self.page.locator("#model-table tbody tr").filter(
            has=self.page.get_by_role("button", name=model, exact=True)
        )

    def phase(self, model: str) -> "playwright.Locator":
        return self.row(model).locator(".c-phase")


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    """Playwright leaves a loop running in this thread until it is stopped, so that it lives no longer than a file."""
    if CHROMIUM is None:
        pytest.skip("the dashboard is NOT TESTED: no Chromium here (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=["--disable-dev-shm-usage", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """`start(models_yaml, "--simulate", "8GiB", NAME=value)`; all of them end with the file."""
    servers: list[Server] = []

    def started(models: str, *args: str, directory: Path | None = None, **env: str) -> Server:
        servers.append(serve(directory or tmp_path_factory.mktemp("ui") / "config", models, *args, **env))
        return servers[-1]

    yield started
    for server in servers:
        server.close()


@pytest.fixture
def look(browser: "playwright.Browser") -> Iterator[Callable[..., Seen]]:
    """`look(server)`: its dashboard in a window of its own; nothing may have gone wrong in it when the test ends."""
    seen: list[Seen] = []

    def looked(server: Server, *, width: int = 1280, height: int = 900, live: bool = True, **context: object) -> Seen:
        window = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", **context)
        window.set_default_timeout(15_000)
        here = Seen(window.new_page())
        here.page.on(
            "console", lambda said: here.wrong.append(said.text) if said.type in {"error", "warning"} else None
        )
        here.page.on("pageerror", lambda error: here.wrong.append(str(error)))
        here.page.on("request", lambda request: here.urls.append(request.url))
        here.page.goto(f"{server.url}/")
        if live:
            here.page.locator(LIVE).wait_for()
        seen.append(here)
        return here

    yield looked
    for here in seen:
        here.page.context.close()
        assert here.wrong == []


@contextmanager
def expected(here: Seen, *words: str) -> Iterator[None]:
    """What goes wrong meanwhile has one of these words, and is no surprise."""
    before = len(here.wrong)
    yield
    here.wrong[before:] = [said for said in here.wrong[before:] if not any(word in said for word in words)]
