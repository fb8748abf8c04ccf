"""Whether `why` is right: what was written down of every decision leads the planner to the same decision again."""

from pathlib import Path

from tests.simulation.story import Story
from vllama.controller.history import Decided, Decisions, Journal, Kept
from vllama.controller.history.records import decided
from vllama.planner import plan

# Nothing is done, waited for or refused: there is nothing to explain that the reason does not say.
PLAIN = {"NotWanted", "Serving", "Idle", "Pinned", "Sleeping", "Starting", "Waking"}


def check_explanations(story: Story, directory: Path, *, every: int = 1) -> None:
    """Of all managers of a world, from the file: what does not come through JSON unharmed is found, too. `every`: only
    one pass of so many.
    """
    records, problems = Journal(directory / "history.jsonl").load()
    for problem in problems:
        story.wrong("history unreadable", problem)
    for record in [each for each in records if isinstance(each, Decisions)][::every]:
        _check(story, record)


def _check(story: Story, record: Decisions) -> None:
    if record.evidence is None:
        for each in record.each:
            if each.reason not in PLAIN or each.action is not None or each.waits_for or each.drain or each.refused:
                story.wrong("unexplained", f"{each.model}: {each.reason} has no evidence")
        return
    evidence = Kept(record.evidence).evidence()
    if evidence is None or not evidence.complete:
        story.wrong("unexplained", f"the evidence of {record.each} cannot be read, or is not whole")
        return
    again = {each.model: each for each in plan(evidence.desired, evidence.snapshot, evidence.now).decisions}
    for each in record.each:
        story.explained[each.reason] += 1
        same = again.get(each.model)
        if same is None or _told(decided(same)) != _told(each):
            story.wrong("explained wrongly", f"{each} was decided, and by its evidence {same}")


def _told(said: Decided) -> tuple[object, ...]:
    """The message too, but for what is of the settings and not of the case."""
    action = None if said.action is None else {**said.action, "spec_hash": None}
    message = "" if "models.yaml now says" in said.message else said.message[:120]  # causes are kept in short
    return said.model, said.reason, message, action, said.waits_for, said.drain, said.refused, said.before, said.after
