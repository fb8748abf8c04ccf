"""What pages say of each other and of the code is there."""

import re

import pytest
import typer

from tests.docs.pages import PAGES, ROOT, name_of
from tests.gateway.house import FACTS, House, live
from vllama.cli.app import app
from vllama.domain.units import KIB, MIB
from vllama.gateway.app import create_app
from vllama.gateway.paths import INFERENCE_PATHS, OLLAMA_PATHS
from vllama.gateway.wire.limits import Limits

API = (ROOT / "docs" / "guides" / "api.md").read_text()


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{name_of(page)}: {target}"


def test_anchors_are_headings() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]*)\)", page.read_text()):
            to = page if not target else page.parent / target
            headings = re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{name_of(page)}: {target}#{anchor}"


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for page in PAGES[1:]:
        link = str(page.relative_to(ROOT / "docs"))
        assert link == "README.md" or f"]({link})" in index, link


def test_every_command_that_is_named_is_there_and_every_command_is_named() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    code = "\n".join(part for page in PAGES for part in re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.DOTALL))
    said = set(re.findall(r"(?:^|[`$(;|] ?)vllama ([a-z][a-z_-]+)\b", code, re.MULTILINE))
    assert said - set(commands) == set()
    assert [name for name, each in commands.items() if not each.hidden and not re.search(rf"\b{name}\b", code)] == []


@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")  # HEAD beside GET; nobody reads that page
def test_every_path_is_on_the_page_of_the_api() -> None:
    async def test(here: House) -> None:
        app = create_app(here.control, version="1", telling=here.telling, facts=FACTS)
        ours = {path.replace("{name}", "NAME").replace("{digest}", "DIGEST") for path in app.openapi()["paths"]}
        theirs = {path.decode() for path in (*INFERENCE_PATHS, *OLLAMA_PATHS)}
        assert len(ours) > 20
        assert {path for path in ours | theirs if not re.search(rf"{re.escape(path)}[`?,\s]", API)} == set()

    live(test)


def test_every_code_of_an_error_is_on_the_page_of_the_api() -> None:
    codes: set[str] = set()
    for path in (ROOT / "vllama" / "gateway").rglob("*.py"):
        codes |= set(re.findall(r'code="([a-z_]+)"', path.read_text()))
    for path in (ROOT / "vllama" / "controller").rglob("*.py"):
        codes |= set(re.findall(r'status=\d+, code="([a-z_]+)"', path.read_text()))
    assert {code for code in codes if f"`{code}`" not in API} == set()


def test_the_limits_are_as_they_are_said() -> None:
    said, limits = API.rpartition("## Limits")[2].replace("\n", " "), Limits()
    assert f"A head of {limits.head_bytes // KIB} KiB and {limits.headers} lines within {limits.head_s:g} s" in said
    assert f"a body of {limits.body_bytes // MIB} MiB that may pause for {limits.body_idle_s:g} s" in said
    assert f"without requests for {limits.keep_alive_s:g} s" in said
    assert f"nothing is said for {limits.tunnel_idle_s / 60:g} minutes" in said
    assert limits.background_s == 3600
