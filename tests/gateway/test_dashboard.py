"""The page's files: open to all, from here only, and as they must be for a page that acts."""

import re

import pytest

from tests.gateway.house import House, live
from vllama.gateway.dashboard import FILES
from vllama.gateway.guard import Guard
from vllama.gateway.keys.key import Key, Scope, digest_of
from vllama.gateway.keys.ring import Keyring

NAMES = sorted(path.name for path in FILES.iterdir())
SCRIPTS = [name for name in NAMES if name.endswith(".js")]


def test_the_page_and_all_that_it_needs_is_served_from_here() -> None:
    async def test(here: House) -> None:
        page = await here.http.get("/ui/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        needed = set(re.findall(r'(?:src|href)="([^"#]+)"', page.text))
        assert needed <= set(NAMES)
        for name in NAMES:
            answer = await here.http.get(f"/ui/{name}")
            assert answer.status_code == 200
            assert answer.content == (FILES / name).read_bytes()
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy

    live(test)


def test_a_browser_at_the_root_is_shown_the_way_and_a_program_is_not() -> None:
    async def test(here: House) -> None:
        for path in ("/", "/ui"):
            answer = await here.http.get(path, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
            assert (answer.status_code, answer.headers["location"]) == (307, "ui/")
        answer = await here.http.get("/")
        assert (answer.status_code, answer.json()["name"], answer.headers["vary"]) == (200, "vllama", "accept")

    live(test)


def test_what_a_browser_has_already_is_not_sent_again() -> None:
    async def test(here: House) -> None:
        tag = (await here.http.get("/ui/app.js")).headers["etag"]
        again = await here.http.get("/ui/app.js", headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
        head = await here.http.head("/ui/")
        assert (head.status_code, head.content) == (200, b"")

    live(test)


@pytest.mark.parametrize(
    "path", ["/ui/nope.js", "/ui/../app.py", "/ui/..%2fapp.py", "/ui/%2e%2e/app.py", "/ui/ui/app.js"]
)
def test_there_is_nothing_else(path: str) -> None:
    async def test(here: House) -> None:
        assert (await here.http.get(path)).status_code == 404

    live(test)


def test_with_keys_the_page_is_open_and_what_it_shows_is_not() -> None:
    ring = {digest_of(b"k"): Key(name="k", scope=Scope.ADMIN)}

    async def test(here: House) -> None:
        assert (await here.http.get("/ui/")).status_code == 200
        assert (await here.http.get("/ui/app.js")).status_code == 200
        assert (await here.http.get("/admin/watch")).status_code == 401
        assert (await here.http.get("/uix")).status_code == 401

    live(test, guard=Guard(keyring=Keyring(ring=ring), admin_loopback=False))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_from_elsewhere_and_no_text_becomes_code(name: str) -> None:
    content = (FILES / name).read_text()
    elsewhere = re.sub(r"http://www\.w3\.org/2000/svg", "", content)
    assert not re.search(r"https?://|//cdn|@import|url\(", elsewhere)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.srcdoc", content
    )
    if name.endswith(".html"):
        assert not re.search(r"\son\w+=|<style|\sstyle=|<script>", content)


@pytest.mark.parametrize("name", SCRIPTS)
def test_files_stay_small(name: str) -> None:
    assert len((FILES / name).read_text().splitlines()) <= 300
