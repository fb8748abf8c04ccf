"""The dashboard of several machines, one of which is silent: what the server tells is made up, the page is real."""

import json

import pytest

from tests.machines import CODER, LARGE, SMALL, three_machines
from tests.planner.cluster import NOW
from vllama.controller.report import statuses
from vllama.gateway.enquiry_json import books_json
from vllama.gateway.render import status_json
from vllama.planner import plan
from vllama.planner.books import books_of


def told() -> bytes:
    """The first event of /admin/watch."""
    desired, snapshot = three_machines()
    made = plan(desired, snapshot, NOW)
    models = []
    for status in statuses(desired, snapshot, made, wall_minus_clock=1.75e9):
        answer = status_json(status) | {"ready_at": None, "doing": None}
        del answer["ready_in_s"]
        models.append(answer)
    state = {
        "about": {"version": "1"}, "conditions": [], "memory": books_json(books_of(desired, snapshot)),
        "servers": {"servers": [], "summary": None}, "models": models, "events": [],
    }  # fmt: skip
    return f"event: state\ndata: {json.dumps(state)}\n\n".encode()


@pytest.fixture(scope="module")
def server(start):
    return start("models: {}\n", "--simulate", "8GiB")


@pytest.fixture
def machines(server, look):
    """`machines(width=...)`: the page, told of three machines each time it asks."""

    def looked(**window):
        here = look(server, **window)
        body, kind = told(), {"content-type": "text/event-stream"}
        here.page.route("**/admin/watch", lambda route: route.fulfill(status=200, body=body, headers=kind))
        here.page.reload()
        here.page.locator(".machine").first.wait_for()
        return here

    return looked


def test_devices_stand_by_their_machines_and_a_lost_one_is_seen_as_such(machines):
    page = machines().page
    boxes = page.locator(".machine")
    assert [boxes.nth(i).get_attribute("data-state") for i in range(3)] == ["ready", "lost", "fenced"]
    assert [boxes.nth(i).locator("h3").first.inner_text() for i in range(3)] == ["gpu-1", "gpu-2", "gpu-3"]
    assert [boxes.nth(i).locator(".card").count() for i in range(3)] == [3, 3, 2]
    lost = boxes.nth(1)
    assert "Lost" in lost.locator(".machine-head").inner_text()
    assert "agent has been silent for 41s" in lost.locator(".machine-why").inner_text()
    assert "Nobody's to take now" in lost.locator(".card").first.inner_text()
    assert boxes.nth(0).locator(".machine-why").is_hidden()
    assert lost.locator(".card").first.locator(".bar").get_attribute("aria-label").startswith("gpu0 of gpu-2: ")
    sums = page.locator("#sums").inner_text()
    assert "Machines" in sums
    assert "of 3; gpu-2 lost, gpu-3 fenced" in sums


def test_models_say_on_which_machine_they_are(machines):
    here = machines()
    where = {model: here.row(model).locator(".c-where").inner_text() for model in (SMALL, CODER, LARGE)}
    assert where[SMALL] == "gpu-1: gpu0"
    assert where[CODER] == "gpu-2: gpu0"
    assert "Lost" in here.phase(CODER).inner_text()


@pytest.mark.parametrize("width", [390, 820, 1600])
def test_nothing_is_wider_than_the_page(machines, width):
    page = machines(width=width).page
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_one_machine_needs_no_word_about_it(server, look):
    page = look(server).page
    page.locator("#device-cards .card").first.wait_for()
    assert page.locator(".machine").count() == 0
    assert "Machines" not in page.locator("#sums").inner_text()
