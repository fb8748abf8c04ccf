"""The dashboard as a person has it: in a browser, with mouse or keyboard, small or large, by day and by night."""

import json
import re
from urllib.parse import urlsplit

import pytest

from tests.ui.conftest import LIVE, expected, playwright
from vllama.gateway.keys.key import digest_of

expect = playwright.expect
expect.set_options(timeout=15_000)
HOSTILE = "<img src=x onerror=alert(1)>/\"'><script>alert(2)</script>"
MODELS = f"""
models:
  org/Alpha: {{memory: 3GiB, auto_start: true, aliases: [first]}}
  org/Beta: {{memory: 3GiB}}
  org/Gamma: {{memory: 2GiB}}
  org/Delta: {{memory: 2GiB}}
  org/Keys: {{memory: 1GiB}}
  org/Huge: {{memory: 99GiB}}
  {json.dumps(HOSTILE)}: {{memory: 1GiB}}
policy: {{only_declared: true}}
servers:
  - {{url: "http://127.0.0.1:9", max_concurrent_requests: 4}}
"""
NAMELESS = """() => [...document.querySelectorAll("button, input, select, [role=group], section")].filter((each) => {
  const says = [each.getAttribute("aria-label"), each.getAttribute("aria-labelledby"), each.textContent.trim(),
    each.closest("label")?.textContent.trim()];
  return each.checkVisibility() && !says.some(Boolean);
}).map((each) => each.outerHTML.slice(0, 80))"""
MANY = "models:\n" + "".join(f"  team-{n % 5}/model-{n:02}: {{memory: {1 + n % 4}GiB}}\n" for n in range(50))


def hashed(secret):
    return f"sha256:{digest_of(secret.encode()).hex()}"


@pytest.fixture(scope="module")
def server(start):
    return start(MODELS, "--simulate", "16GiB,8GiB")


def act(here, verb, *, level=None):
    """In the dialog that is open: see the plan, then do it."""
    plan = here.page.locator("#plan")
    expect(plan.locator("#plan-go")).to_be_enabled()
    if level:
        plan.locator("#plan-level").select_option(level)
    expect(plan.locator(".verdict").first).to_be_visible()
    plan.locator("#plan-go").click()
    expect(plan).to_be_hidden()


def test_it_loads_whole_and_asks_nobody_else(server, look):
    here = look(server)
    page = here.page
    assert page.url == f"{server.url}/ui/"
    expect(here.phase("org/Alpha")).to_contain_text("Ready")
    expect(here.phase("org/Beta")).to_contain_text("Stopped")
    expect(page.locator("#device-cards article")).to_have_count(3)
    gpu0 = page.locator("#device-cards article").first
    expect(gpu0).to_contain_text("13.0 GiB free of 16 GiB")
    expect(gpu0.locator(".piece.awake")).to_have_text("Alpha")
    gpu0.locator(".piece.awake").hover()
    expect(page.locator("#tip")).to_contain_text("org/Alpha")
    expect(page.locator("#tip")).to_contain_text("3.0 GiB (18.8%)")
    expect(page.locator("#legend li")).to_have_count(6)
    expect(page.locator("#timeline .span.awake").first).to_be_visible()
    page.locator("#timeline .span.awake").first.hover()
    expect(page.locator("#tip")).to_contain_text("Because")
    expect(page.locator("#event-list")).to_contain_text("loadDone")
    expect(page.locator("#server-table tbody tr")).to_contain_text("http://127.0.0.1:9")
    assert {urlsplit(url).netloc for url in here.urls} == {urlsplit(server.url).netloc}


def test_a_button_shows_the_plan_and_cancel_does_nothing(server, look):
    here = look(server)
    plan = here.page.locator("#plan")
    here.row("org/Beta").get_by_role("button", name="Start org/Beta").click()
    expect(plan.locator(".steps .step.start")).to_contain_text("org/Beta")
    expect(plan.locator(".verdict")).to_contain_text("Ready after")
    expect(plan.locator(".rooms")).to_contain_text("gpu")
    expect(plan.locator("#plan-cancel")).to_be_focused()
    plan.locator("#plan-cancel").click()
    expect(plan).to_be_hidden()
    here.row("org/Beta").get_by_role("button", name="Start org/Beta").click()
    here.page.keyboard.press("Escape")
    expect(plan).to_be_hidden()
    assert server.phases()["org/Beta"] == "Stopped"
    assert not [url for url in here.urls if url.endswith("/start")]


def test_start_sleep_wake_and_stop_by_their_buttons(server, look):
    here = look(server)
    for button, level, phase in (
        ("Start", None, "Ready"),
        ("Sleep", "1", "Asleep L1"),
        ("Wake", None, "Ready"),
        ("Stop", None, "Stopped"),
    ):
        here.row("org/Gamma").get_by_role("button", name=f"{button} org/Gamma").click()
        act(here, button, level=level)
        expect(here.phase("org/Gamma")).to_have_text(phase)
    here.row("org/Gamma").get_by_role("button", name="org/Gamma", exact=True).click()
    card = here.page.locator("#card")
    expect(card).to_contain_text("HeldByOperator")
    expect(card.locator(".card-rest")).to_contain_text("Start takes")
    card.get_by_role("button", name="Log").click()
    expect(here.page.locator("#log-text")).to_contain_text("Application startup complete")


def test_a_plan_that_can_never_be_says_why(server, look):
    here = look(server)
    here.row("org/Huge").get_by_role("button", name="Start org/Huge").click()
    expect(here.page.locator("#plan .verdict.bad")).to_contain_text("CannotFit: Needs 99.0 GiB")


def test_what_a_request_causes_shows_without_a_reload(server, look):
    here = look(server)
    expect(here.phase("org/Delta")).to_contain_text("Stopped")
    before = len(here.urls)
    assert server.chat("org/Delta").status_code == 200
    expect(here.phase("org/Delta")).to_contain_text("Ready")
    expect(here.page.locator("#event-list")).to_contain_text("org/Delta")
    expect(here.page.locator("#device-cards .piece", has_text="Delta")).to_be_visible()
    here.page.get_by_role("button", name="By model").click()
    expect(here.page.locator("#timeline text.label", has_text="Delta")).to_be_visible()
    assert not [url for url in here.urls[before:] if "/admin/history" not in url]


def test_hostile_names_are_only_text(server, look):
    here = look(server)
    page = here.page
    page.on("dialog", lambda dialog: here.wrong.append(f"a dialog: {dialog.message}"))
    page.locator("#filter").fill("onerror")
    expect(page.locator("#model-table tbody tr")).to_have_count(1)
    expect(page.locator("#model-table .name")).to_have_text(HOSTILE)
    page.locator("#model-table button.act").first.click()
    expect(page.locator("#plan-title")).to_contain_text(HOSTILE)
    act(here, "Start")
    expect(page.locator("#model-table td.c-phase")).to_contain_text("Ready")
    page.locator("#model-table button.name").click()
    expect(page.locator("#card-title")).to_have_text(HOSTILE)
    expect(page.locator("#card .card-rest")).to_contain_text("Start takes")
    page.keyboard.press("Escape")
    page.locator("#log-model").select_option(HOSTILE)
    expect(page.locator("#log-text .line").first).to_be_visible()
    expect(page.locator("#event-list")).to_contain_text(HOSTILE)
    assert page.locator("img[src=x], main script, dialog script").count() == 0


def test_everything_by_keyboard(server, look):
    here = look(server)
    page = here.page
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#filter")).to_be_focused()
    page.keyboard.type("Keys")
    expect(page.locator("#model-table tbody tr")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("#model-table button.name")).to_be_focused()
    page.keyboard.press("s")
    expect(page.locator("#plan-go")).to_be_enabled()
    page.keyboard.press("Tab")
    expect(page.locator("#plan-go")).to_be_focused()
    page.keyboard.press("Enter")
    expect(here.phase("org/Keys")).to_contain_text("Ready")
    expect(page.locator("#model-table button.name")).to_be_focused()
    page.keyboard.press("z")
    expect(page.locator("#plan-title")).to_contain_text("Put to sleep org/Keys")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    expect(page.locator("#card-title")).to_have_text("org/Keys")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    page.keyboard.press("Tab")
    expect(page.locator(".bar").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tip")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#tip")).to_be_hidden()


def test_every_control_has_a_name_and_comes_in_order(server, look):
    page = look(server).page
    nameless = page.evaluate(NAMELESS)
    assert nameless == []
    assert page.locator("[tabindex]:not([tabindex='0']):not([tabindex='-1'])").count() == 0


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_by_day_and_by_night(server, look, scheme, dark):
    page = look(server, color_scheme=scheme).page

    def is_dark():
        red, green, blue = map(
            int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
        )
        return red + green + blue < 380

    assert is_dark() is dark
    page.keyboard.press("t")  # light
    assert is_dark() is False
    page.locator("#theme").click()  # dark
    assert is_dark() is True
    page.reload()
    page.locator(LIVE).wait_for()
    assert is_dark() is True


@pytest.fixture(scope="module")
def many(start):
    return start(MANY, "--simulate", "24GiB,24GiB")


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_fifty_models_at_any_width(many, look, width):
    here = look(many, width=width)
    page = here.page
    expect(page.locator("#model-table tbody tr")).to_have_count(50)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    first = here.row("team-0/model-00")
    first.get_by_role("button", name="Start team-0/model-00").click()
    expect(page.locator("#plan-go")).to_be_enabled()
    box = page.locator("#plan-go").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    page.keyboard.press("Escape")
    page.locator("#filter").fill("model-4")
    expect(page.locator("#model-table tbody tr")).to_have_count(10)
    page.locator("#filter").fill("nothing like this")
    expect(page.locator("#model-table .empty")).to_contain_text("No model is like that.")


def test_a_key_is_asked_for_and_kept_in_the_tab(start, look, tmp_path):
    config_dir = tmp_path / "config"
    admin, other = "vllama-of-ops", "vllama-of-laptop"
    config_dir.mkdir()
    (config_dir / "keys.yaml").write_text(
        f"keys: {{ops: {{hash: {hashed(admin)}, scope: admin}}, laptop: {{hash: {hashed(other)}}}}}"
    )
    server = start(
        "models: {org/A: {memory: 1GiB}}", "--simulate", "8GiB", directory=config_dir, VLLAMA_ADMIN_LOOPBACK="false"
    )
    here = look(server, live=False)
    page = here.page
    with expected(here, "401", "403"):
        for wrong, said in (("vllama-of-nobody", "none that it knows"), (other, "for the models only")):
            page.locator("#key-input").fill(wrong)
            page.keyboard.press("Enter")
            expect(page.locator("#key [role=alert]")).to_contain_text(said)
        page.locator("#key-input").fill(admin)
        page.keyboard.press("Enter")
        page.locator(LIVE).wait_for()
        expect(page.locator("#notice")).to_be_hidden()
        here.row("org/A").get_by_role("button", name="Start org/A").click()
        act(here, "Start")
        expect(here.phase("org/A")).to_contain_text("Ready")
        page.reload()
        page.locator(LIVE).wait_for()
        assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
        assert not [url for url in here.urls if admin in url]
        page.get_by_role("button", name="Forget key").click()
        expect(page.locator("#key")).to_be_visible()


def test_who_may_not_look_is_told_why(many, look):
    here = look(many, live=False, extra_http_headers={"x-forwarded-for": "203.0.113.9"})
    with expected(here, "403"):
        expect(here.page.locator("#notice")).to_contain_text("takes nothing through a proxy")
        expect(here.page.locator("#link")).to_contain_text("Not allowed")
        here.page.get_by_role("button", name="Use a key").click()
        expect(here.page.locator("#key-input")).to_be_focused()


def test_it_survives_another_server_in_its_place(start, look, tmp_path):
    config_dir = tmp_path / "config"
    first = start("models: {org/A: {memory: 1GiB}}", "--simulate", "8GiB", directory=config_dir)
    here = look(first)
    expect(here.row("org/A")).to_be_visible()
    port = urlsplit(first.url).port
    with expected(here, "ERR_", "Failed to load", "Failed to fetch"):
        assert first.terminate() == 0
        expect(here.page.locator("#link[data-state=lost]")).to_be_visible()
        second = start(
            "models: {org/B: {memory: 1GiB}}", "--simulate", "8GiB", "--port", str(port), directory=config_dir
        )
        assert second.url == first.url
        here.page.locator(LIVE).wait_for()
    expect(here.row("org/B")).to_be_visible()
    expect(here.row("org/A")).to_have_count(0)
    expect(here.page.locator("#timeline .began")).to_have_count(2)
