"""What stands beside the models, changed by a command."""

import pytest

from vllama.controller.manifest.beside import Beside, CannotEdit
from vllama.controller.manifest.edit import Edit, edited

SERVER = {"url": "http://a:1", "max_concurrent_requests": 2}
FULL = """\
# top
models:
  a: {}

# whom we ask
servers:
  - url: http://a:1/v1  # the first

# how
balance: {queue: 3}
"""


def test_a_server_is_added_where_the_comments_stay() -> None:
    after = edited(FULL, beside=Beside(servers=({"url": "http://b:1"},)))
    assert after == FULL.replace("# the first\n", "# the first\n  - url: http://b:1\n")


def test_the_same_server_is_changed_in_its_place() -> None:
    after = edited(FULL, beside=Beside(servers=(SERVER,), balance={"queue": 4, "max_retries": 1}))
    assert "  - url: http://a:1     # the first\n    max_concurrent_requests: 2\n" in after
    assert after.endswith("# how\nbalance: {queue: 4, max_retries: 1}\n")
    assert edited(after, beside=Beside(servers=(SERVER,), balance={"queue": 4})) == after


def test_a_flat_file_becomes_a_full_one() -> None:
    flat = "# mine\norg/a:\n  port: 1  # why\n\norg/b: {}\n"
    after = edited(flat, Edit(model="org/c", put={("pin",): True}), beside=Beside(servers=(SERVER,)))
    begin = "models:\n  # mine\n  org/a:\n    port: 1  # why\n\n  org/b: {}\n  org/c:\n    pin: true\nservers:\n"
    assert after.startswith(begin)
    with pytest.raises(CannotEdit, match="by hand"):
        edited("---\norg/a: {}\n", beside=Beside(servers=(SERVER,)))


def test_an_empty_file_gets_only_what_is_added() -> None:
    assert edited("", beside=Beside(balance={"queue": 1})) == "balance:\n  queue: 1\n"


def test_notes_are_said_once() -> None:
    notes = Beside(notes=("# one", "# two"))
    assert edited("a: {}", beside=notes) == "a: {}\n# one\n# two\n"
    assert edited("a: {}\n# two\n", beside=notes) == "a: {}\n# two\n# one\n"


@pytest.mark.parametrize("text", ["models: {}\nservers: x\n", "models: {}\nbalance: x\n"])
def test_what_is_no_section_is_left_alone(text: str) -> None:
    with pytest.raises(CannotEdit, match="by hand"):
        edited(text, beside=Beside(servers=(SERVER,), balance={"queue": 1}))
