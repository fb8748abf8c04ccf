from dataclasses import replace
from pathlib import Path

from vllama.controller.history import Decided, Decisions, Journal, Mark, PhaseChange
from vllama.domain.status import Phase

CHANGE = PhaseChange(
    at=1e9, model="org/a", before=None, after=Phase.READY, reason="Demanded", message="Größe", node="here",
    devices=(0, 1),
)  # fmt: skip
DECIDED = Decided(
    model="org/a", reason="MakingRoom", message="m", before=Phase.STOPPED, after=Phase.READY,
    action={"verb": "start", "devices": [0]}, waits_for=("org/b",), drain=True, refused=True,
)  # fmt: skip
BOTH = Decisions(at=1e9 + 1, each=(DECIDED, replace(DECIDED, action=None)), evidence={"n": [1, None]})


def written(journal: Journal, *records: PhaseChange | Decisions | Mark) -> None:
    for record in records:
        journal.add(lambda record=record: record)
    journal.write()


def test_what_was_written_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    every = [Mark(at=1e9, begun=True), CHANGE, BOTH, Mark(at=1e9 + 2, begun=False)]
    written(Journal(path), *every[:2])
    written(Journal(path), *every[2:])
    assert Journal(path).load() == (every, [])


def test_nothing_there_is_an_empty_history(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl")
    assert journal.load() == ([], [])
    journal.write()
    assert not list(tmp_path.iterdir())


def test_lines_that_are_no_records_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    written(Journal(path), CHANGE)
    good = path.read_bytes()
    path.write_bytes(b"\x00\xff garbage\n[]\n{}\n" + b'{"kind": "phase", "at": "late"}\n\n' + good + b'{"kind": "pha')
    journal = Journal(path)
    records, [problem] = journal.load()
    assert records == [CHANGE]
    assert problem.startswith(f"5 lines of {path} are no records")
    written(journal, BOTH)  # after half a line
    assert Journal(path).load()[0] == [CHANGE, BOTH]


def test_a_later_version_may_say_more(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    written(Journal(path), CHANGE)
    path.write_bytes(path.read_bytes().replace(b'{"kind"', b'{"further":1,"kind"'))
    assert Journal(path).load() == ([CHANGE], [])


def test_it_takes_no_more_than_two_parts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl", max_bytes=2000)
    for number in range(100):
        written(journal, replace(CHANGE, at=float(number)))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * 2300
    records, problems = journal.load()
    assert not problems
    times = [record.at for record in records]
    assert times == [float(number) for number in range(100 - len(times), 100)]
    assert len(times) > 10


def test_what_the_disk_does_not_take_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "history.jsonl"
    journal = Journal(path)
    written(journal, CHANGE)
    assert journal.error == f"{path}: No such file or directory"
    path.parent.mkdir()
    written(journal, BOTH)
    assert journal.error is None
    assert Journal(path).load() == ([CHANGE, BOTH], [])


def test_a_directory_in_its_place_is_a_problem_and_no_end(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").mkdir()
    records, [problem] = Journal(tmp_path / "history.jsonl").load()
    assert not records
    assert "Is a directory" in problem
