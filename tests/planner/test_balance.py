"""Which server gets the next request."""

from hypothesis import assume, given
from hypothesis import strategies as st

from vllama.planner.balance import Candidate, choose, score

COUNTS = st.integers(0, 40)


@st.composite
def candidates(draw: st.DrawFn, server: str = "") -> Candidate:
    return Candidate(
        server=server or draw(st.sampled_from("abcdefgh")), capacity=draw(st.integers(1, 20)), in_flight=draw(COUNTS),
        running=draw(COUNTS), waiting=draw(COUNTS), in_flight_then=draw(COUNTS),
        last_chosen_at=draw(st.floats(0, 100)),
    )  # fmt: skip


FLEETS = st.lists(candidates(), max_size=8, unique_by=lambda one: one.server)


@given(FLEETS)
def test_one_with_room_is_chosen_whenever_there_is_one(fleet: list[Candidate]) -> None:
    chosen = choose(fleet)
    free = {one.server for one in fleet if one.in_flight < one.capacity}
    assert chosen in free if free else chosen is None


@given(FLEETS)
def test_nobody_with_room_is_less_loaded(fleet: list[Candidate]) -> None:
    chosen = next((one for one in fleet if one.server == choose(fleet)), None)
    assume(chosen is not None)
    free = [one for one in fleet if one.in_flight < one.capacity]
    assert all(score(chosen) <= score(one) for one in free)
    if any(score(one) < 0.5 for one in free):
        assert score(chosen) < 0.5


@given(FLEETS, st.randoms())
def test_their_order_is_irrelevant(fleet: list[Candidate], random) -> None:
    shuffled = list(fleet)
    random.shuffle(shuffled)
    assert choose(shuffled) == choose(fleet)


@given(candidates(), st.integers(1, 9))
def test_more_of_anything_is_more_load(one: Candidate, more: int) -> None:
    def but(**changes: int) -> Candidate:
        fields = {name: getattr(one, name) for name in Candidate.__struct_fields__}
        return Candidate(**fields | changes)

    assert score(but(in_flight=one.in_flight + more)) > score(one)
    assert score(but(running=one.running + more)) >= score(but(waiting=one.waiting + more)) >= score(one)
    assert score(but(capacity=one.capacity + more)) <= score(one)


def test_what_it_said_while_ours_were_there_does_not_count_them_twice() -> None:
    assert score(Candidate(server="a", capacity=4, in_flight=2, running=2, in_flight_then=2)) == 0.5
    assert score(Candidate(server="a", capacity=4, in_flight=0, running=2, in_flight_then=2)) == 0.0
    assert score(Candidate(server="a", capacity=4, in_flight=0, running=1, waiting=2)) == 0.5


def test_a_burst_is_spread_evenly_though_nobody_tells_its_load_meanwhile() -> None:
    in_flight = dict.fromkeys("abc", 0)
    for _ in range(9):
        fleet = [Candidate(server=name, capacity=3, in_flight=count) for name, count in in_flight.items()]
        in_flight[choose(fleet) or ""] += 1
    assert in_flight == {"a": 3, "b": 3, "c": 3}


def test_those_that_are_alike_take_turns() -> None:
    last = dict.fromkeys("abc", 0.0)
    chosen = ""
    for now in range(1, 7):
        name = choose(Candidate(server=one, capacity=3, in_flight=0, last_chosen_at=last[one]) for one in last) or ""
        last[name] = float(now)
        chosen += name
    assert chosen == "abcabc"
