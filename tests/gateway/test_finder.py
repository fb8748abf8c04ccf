"""What a name means is looked up once, until it may mean something else."""

import pytest

from tests.gateway.house import MODEL, ListedControl
from vllama.controller.control import Unresolved
from vllama.domain.spec import ModelSpec
from vllama.gateway.finder import Finder
from vllama.gateway.inference import Refused
from vllama.gateway.makers import Makers

CHAT, EMBED = b"/v1/chat/completions", b"/v1/embeddings"


class CountedControl(ListedControl):
    looked_up = 0

    def resolve(self, name: str) -> ModelSpec | Unresolved:
        self.looked_up += 1
        return super().resolve(name)


def finder_of(control: ListedControl) -> Finder:
    return Finder(control, Makers(clock=lambda: 0.0))


def test_the_same_name_is_looked_up_once_and_each_request_keeps_what_it_says_itself() -> None:
    control = CountedControl(specs=[ModelSpec(model=MODEL, aliases=("tiny",))])
    finder = finder_of(control)
    bodies = (b'{"model":"tiny"}', b'{"model":"tiny","stream":true}', b'{"model":"tiny","keep_alive":"5m"}')
    plain, streamed, kept = (finder.find(CHAT, b"", body) for body in bodies)
    assert control.looked_up == 1
    assert (plain.streams, streamed.streams, kept.streams) == (False, True, False)
    assert (plain.keep_alive, plain.has_ours, kept.has_ours) == (None, False, True)
    assert kept.keep_alive is not None
    assert kept.keep_alive.idle_s == 300
    assert finder.find(CHAT, b"", bodies[0]) == plain


def test_it_is_looked_up_again_when_it_may_mean_something_else() -> None:
    control = ListedControl(specs=[ModelSpec(model=MODEL, aliases=("tiny",))])
    finder = finder_of(control)
    assert finder.find(CHAT, b"", b'{"model":"tiny"}').spec.model == MODEL
    control.specs = [ModelSpec(model="org/b", aliases=("tiny",), lora=(("extra", "/lora"),))]
    assert finder.find(CHAT, b"", b'{"model":"tiny"}').spec.model == "org/b"
    assert finder.find(CHAT, b"", b'{"model":"extra"}').is_adapter
    control.specs = []
    with pytest.raises(Refused) as refused:
        finder.find(CHAT, b"", b'{"model":"tiny"}')
    assert refused.value.answer.status == 404


def test_what_it_can_do_is_judged_for_each_path_and_anew_when_more_is_known() -> None:
    control = ListedControl(specs=[ModelSpec(model=MODEL, aliases=("tiny",))])
    finder = finder_of(control)
    for path in (CHAT, EMBED):
        assert finder.find(path, b"", b'{"model":"tiny"}').spec.model == MODEL
    control.known_tasks[MODEL] = frozenset({"generate"})
    assert finder.find(CHAT, b"", b'{"model":"tiny"}').spec.model == MODEL
    with pytest.raises(Refused) as refused:
        finder.find(EMBED, b"", b'{"model":"tiny"}')
    assert refused.value.answer.status == 400


def test_names_of_no_model_are_not_kept() -> None:
    control = CountedControl(specs=[])
    finder = finder_of(control)
    for _ in range(2):
        with pytest.raises(Refused):
            finder.find(CHAT, b"", b'{"model":"made-up"}')
    assert control.looked_up == 2
