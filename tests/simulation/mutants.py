"""Bugs planted in the planner, one at a time, in a copy of it: the properties must catch every one.

    python -m tests.simulation.mutants            the planted kinds, by name
    python -m tests.simulation.mutants --score    every comparison, constant, `and`, `not` and `return` turned round

The second is the mutation score, measured offline: hours on two cores, `--sample 100` for an estimate.
"""

import argparse
import ast
import concurrent.futures
import copy
import functools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PLANNER = ROOT / "vllama" / "planner"
SUITE = ROOT / "tests" / "planner"
SLOW = ("test_properties.py", "test_liveness.py")  # the generated ones, where the written ones find nothing
QUICKEST = "test_replicas.py"  # first of all: it catches many, and is over at once
TIMEOUT_S = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """`old`, found once in `file`, becomes `new`."""

    name: str
    file: str
    old: str
    new: str


PLANTED = (
    Planted(name="a second start beside an engine of unknown state", file="upkeep.py",
            old="if isinstance(engine.state, Unknown):", new="if False:"),
    Planted(name="a busy engine taken for idle", file="eviction.py",
            old="busy, copies = demand.in_flight > 0,", new="busy, copies = False,"),
    Planted(name="pinned models as victims", file="eviction.py",
            old="or (spec.pin and view.pinned(engine.model))", new="or False"),
    Planted(name="the most recently used goes first", file="eviction.py",
            old="(*kind, min(costs.values()), last_used,", new="(*kind, -min(costs.values()), last_used,"),
    Planted(name="victims that are not needed are not let off", file="eviction.py",
            old="if _can_spare(missing, candidate, candidate.stop_frees):", new="if False:"),
    Planted(name="always stop, never sleep", file="eviction.py",
            old="victims.append(Victim(candidate=candidate, level=level))",
            new="victims.append(Victim(candidate=candidate, level=SleepLevel.STOP))"),
    Planted(name="sleep although that frees too little", file="eviction.py",
            old="if level is not SleepLevel.STOP and _can_spare(missing, candidate, keeps):",
            new="if level is not SleepLevel.STOP:"),
    Planted(name="evicted although it does not make the newcomer fit", file="eviction.py",
            old="return taken\n    return None", new="return taken\n    return taken"),
    Planted(name="freed memory belongs to nobody", file="room.py",
            old="draft.ledger.take((key,), need)", new="pass"),
    Planted(name="two operations on one device", file="draft.py",
            old="self.view.hold(action.keys, model, freeing=isinstance(action, Sleep | Stop))",
            new="pass"),
    Planted(name="a start beside somebody's load", file="view.py",
            old="if isinstance(as_seen.state, Loading):", new="if False:"),
    Planted(name="stalled loads wait for each other", file="view.py",
            old="return bool(loads) and all(", new="return False and all("),
    Planted(name="a start beside an operation under way", file="view.py",
            old="for op in by_age:  # of an engine", new="for op in ():  # of an engine"),
    Planted(name="foreign memory is not there", file="ledger.py",
            old="foreign = max(0, (device.used_bytes or 0) - ours[key])", new="foreign = 0"),
    Planted(name="the reserve is given away", file="ledger.py",
            old="device.total_bytes - device.reserve_bytes - foreign", new="device.total_bytes - foreign"),
    Planted(name="memory that is not known counts as free", file="ledger.py",
            old="self.room[key] = self.capacity[key] - charged[key] if is_known else None",
            new="self.room[key] = self.capacity[key] - charged[key]"),
    Planted(name="a sleeper holds nothing", file="ledger.py",
            old="return footprint.asleep_bytes\n", new="return 0\n"),
    Planted(name="the need is divided by the number of devices", file="placement.py",
            old="need = need_bytes(spec, ledger.footprint(spec.model), smallest)",
            new="need = need_bytes(spec, ledger.footprint(spec.model), smallest) // spec.device_count"),
    Planted(name="devices that models.yaml does not name", file="placement.py",
            old="return present if spec.devices is None else", new="return present if True else"),
    Planted(name="no pause after a crash", file="backoff.py",
            old="if crashes is None or now >= retry_at(crashes):", new="if True:"),
    Planted(name="the pause does not grow", file="backoff.py",
            old="min(FIRST_S * 2.0 ** min(count - 1, 10), LONGEST_S)", new="FIRST_S"),
    Planted(name="a row of crashes is never forgiven", file="backoff.py",
            old="if previous is None or up_s >= FORGIVEN_AFTER_UP_S else", new="if previous is None else"),
    Planted(name="waiters out of order", file="wanted.py",
            old="(_turn(view, want), want.since, want.model)", new="(-_turn(view, want), want.since, want.model)"),
    Planted(name="priority counts for nothing", file="wanted.py",
            old="(spec.priority if spec else 0) * view.policy.ageing_s", new="0"),
    Planted(name="a waiter past the bound never gets a drain", file="room.py",
            old="if view.now >= bound_at and all(", new="if False and all("),
    Planted(name="a drain before the fairness bound", file="room.py",
            old="if view.now >= bound_at and all(", new="if all("),
    Planted(name="a drain that never ends", file="eviction.py",
            old="return view.now < demand.admission_closed_at + policy.drain_deadline_s", new="return True"),
    Planted(name="the idle victims of a drain are let in again", file="room.py",
            old="for victim in awake:\n            _drain(draft, victim, want)",
            new="for victim in offer.busy:\n            _drain(draft, victim, want)"),
    Planted(name="what can never fit waits for ever", file="never.py",
            old="if not nodes or _can_fit(ledger, spec, nodes):", new="if True:"),
    Planted(name="an engine with other settings is kept", file="upkeep.py",
            old="elif engine.spec_hash != spec.spec_hash:", new="elif False:"),
    Planted(name="requests are cut when settings change", file="stopping.py",
            old="    if not _serves(draft, engine):\n        return None", new="    if True:\n        return None"),
    Planted(name="host memory has no end", file="eviction.py",
            old="if copy <= host_left[candidate.engine.node]:", new="if True:"),
    Planted(name="host memory has no end for the idle", file="ledger.py",
            old="if self.copy_bytes(engine, level) <= room)", new="if True)"),
    Planted(name="what the host has available does not count", file="ledger.py",
            old="if node.host_available_bytes is not None:", new="if False:"),
    Planted(name="level 2 for who comes back wrong from it", file="ledger.py",
            old="or footprint.discardable", new="or True"),
    Planted(name="a level that failed is tried again", file="ledger.py",
            old="return may and level not in footprint.refused_levels", new="return may"),
    Planted(name="a host short of memory is not relieved", file="plan.py",
            old="relieve_hosts(draft)\n    for", new="for"),
    Planted(name="the warmest sleeper goes first", file="ladder.py",
            old="key=lambda engine: copy_rank(view, ledger, engine))",
            new="key=lambda engine: copy_rank(view, ledger, engine), reverse=True)"),
    Planted(name="a leaking sleeper is kept", file="ladder.py",
            old="if not in_flight and (grown := _grown(engine)) is not None:", new="if False:"),
    Planted(name="linked devices count for nothing", file="placement.py",
            old="loading, not is_linked(node, devices), -room", new="loading, False, -room"),
    Planted(name="weights that cannot fit get less memory", file="ledger.py",
            old="return min(footprint.awake_bytes, max(largest, least))",
            new="return min(footprint.awake_bytes, largest)"),
    Planted(name="a start that is nearly done is given up", file="ladder.py",
            old="if view.now >= half_at if half_at is not None else loading.part >= HALF:", new="if False:"),
    Planted(name="a start is given up before who broke off can try again", file="ladder.py",
            old="if view.now < gone_at + LINGER_S:", new="if False:"),
    Planted(name="what a request said of the time after it counts for nothing", file="ladder.py",
            old="if said is None else (said.idle_s", new="if True else (said.idle_s"),
    Planted(name="nobody ever goes to sleep for being idle", file="ladder.py",
            old="action=sleep_of(engine, level), after=Phase.ASLEEP)", new="action=None, after=Phase.ASLEEP)"),
    Planted(name="a further replica starts where somebody has to go for it", file="further.py",
            old="best_offer(spec, draft.ledger, {})", new="best_offer(spec, draft.ledger, draft.candidates)"),
    Planted(name="a further replica wakes where somebody has to go for it", file="further.py",
            old="engine.devices, needs, {}, engine.further)",
            new="engine.devices, needs, draft.candidates, engine.further)"),
    Planted(name="a further replica starts while somebody waits for room", file="further.py",
            old="case None if first is None:", new="case None if True:"),
    Planted(name="further replicas come back although their model rests", file="further.py",
            old="return view.now < view.last_used(engine) + after_s", new="return True"),
    Planted(name="a spare replica goes as late as any other", file="eviction.py",
            old="demand.waiting > 0, not spare)", new="demand.waiting > 0, False)"),
    Planted(name="the last engine of a model goes like a spare one", file="view.py",
            old="if lead == model:\n            return False\n", new=""),
    Planted(name="a spare replica that loads is waited for", file="eviction.py",
            old="case Loading() if spare:", new="case Loading() if False:"),
    Planted(name="the first replica leads although another one serves", file="replicas.py",
            old="return min(names, key=rank)", new="return names[0]"),
    Planted(name="an operator's stop is for one replica only", file="replicas.py",
            old="else dict.fromkeys(names, wish)", new="else {lead: wish}"),
    Planted(name="a use of one replica is no use of the others", file="replicas.py",
            old="last_used_at=max((o.last_used_at for o in each if o.last_used_at is not None), default=None),",
            new="last_used_at=one.last_used_at,"),
    Planted(name="who is missed most goes", file="cheapest.py",
            old="(step.candidate.kind, step.per_byte, step.candidate.rank, step.level)",
            new="(step.candidate.kind, -step.per_byte, step.candidate.rank, step.level)"),
    Planted(name="those that turned out needless go too", file="cheapest.py",
            old="if id(s) not in held and _can_spare(missing, s)), None)", new="if False), None)"),
    Planted(name="several go although one would be missed less", file="cheapest.py",
            old="[_needed(taken, missing), *_alone(steps, deficits)]", new="[_needed(taken, missing)]"),
    Planted(name="one goes alone although that does not make room", file="cheapest.py",
            old="and frees >= need for key, need", new="for key, need"),
    Planted(name="the busy go when they are missed less", file="cheapest.py",
            old="max(step.candidate.kind for step in steps),", new="True,"),
    Planted(name="copies that the host has no room for", file="cheapest.py",
            old="if copy <= left[node]:", new="if True:"),
    Planted(name="how soon it is back counts for nothing", file="victims.py",
            old="{level: often * back_s(ledger, engine, level) for level in every}",
            new="{level: often for level in every}"),
    Planted(name="how often it is asked for counts for nothing", file="victims.py",
            old="often = asked_per_s(view, engine, view.as_of)", new="often = 1.0"),
    Planted(name="who goes changes with time alone", file="victims.py",
            old="often = asked_per_s(view, engine, view.as_of)", new="often = asked_per_s(view, engine, view.now)"),
    Planted(name="a busy one is waited for instead of a stop, for ever", file="patience.py",
            old="if view.now >= until or (rather", new="if (rather"),
    Planted(name="who is hardly asked for is not stopped either", file="patience.py",
            old="* min(1.0, SOON_S * asked_per_s(view, engine, view.as_of))", new="* 1.0"),
    Planted(name="a model is stopped in haste", file="patience.py",
            old="draft.look_again_at(until)", new="return None"),
    Planted(name="the warmest copy goes by what it costs", file="victims.py",
            old="cost /= max(1, sleeper.host_copy_bytes)", new="cost /= -max(1, sleeper.host_copy_bytes)"),
    Planted(name="a sleeper moves because somebody is let in this very moment", file="serve.py",
            old="return serves or bool(draft.claims.get(key))", new="return bool(draft.claims.get(key))"),
    Planted(name="a sleeper moves to where it takes turns as often", file="moving.py",
            old=" - in_turns(ledger, engine, there.keys, waits_s)", new=""),
    Planted(name="a sleeper that has just started moves again", file="moving.py",
            old="engine.started_at + PAYS_WITHIN_S):", new="engine.started_at):"),
    Planted(name="who fits beside a sleeper counts as in its way", file="moving.py",
            old="- ledger.asleep(other) <= ledger.capacity[key]:", new="- ledger.asleep(other) <= 0:"),
    Planted(name="a sleeper moves to where somebody has to stop", file="moving.py",
            old="if stops or not (", new="if not ("),
    Planted(name="the memory of a machine that does not answer is given away", file="ledger.py",
            old="is_known = device.used_bytes is not None and key[0] in self.view.ready",
            new="is_known = device.used_bytes is not None"),
    Planted(name="an engine on a machine that does not answer serves", file="believed.py",
            old="if len(gone) == len(engine.nodes):", new="if False:"),
    Planted(name="what is left of an engine that has lost a part is kept", file="upkeep.py",
            old="if gone := view.torn.get(engine.engine_id):", new="if gone := None:"),
    Planted(name="who fits only a machine that does not answer is refused", file="never.py",
            old="view, nodes = ledger.view, list(ledger.view.nodes.values())",
            new="view, nodes = ledger.view, list(ledger.view.ready.values())"),
    Planted(name="an operation on a lost machine keeps its model from all others", file="view.py",
            old="{op.model: op for op in by_age if not self.is_away(op.nodes)}", new="{op.model: op for op in by_age}"),
    Planted(name="the machine that a model names is any", file="placement.py",
            old="if spec.node is not None and spec.node != node.name:", new="if False:"),
    Planted(name="replicas on the same machine", file="placement.py",
            old="return len(near), any(", new="return 0, any("),
    Planted(name="a tensor-parallel group on two machines", file="spans.py",
            old="number = next(iter(inside or even), 1)", new="number = next(iter(even), 1)"),
    Planted(name="an engine that spans machines which are not alike", file="spans.py",
            old="sorted(device.total_bytes for", new="sorted(0 for"),
    Planted(name="an engine that spans machines is put to sleep", file="ledger.py",
            old="if engine.further:\n            return", new="if False:\n            return"),
    Planted(name="old figures count for our engines", file="believed.py",
            old="return node.seen_at is not None and taken_at - node.seen_at > STALE_S", new="return False"),
    Planted(name="a sleeper waits for ever where it cannot wake", file="serve.py",
            old="if view.now >= moves_at or not any(", new="if not any("),
)  # fmt: skip


def plant(mutant: Planted) -> str:
    """The file with the bug in it. ValueError: the planner changed, and the bug has no place any more."""
    text = (PLANNER / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.file} has {text.count(mutant.old)} places like {mutant.old!r}")
    return text.replace(mutant.old, mutant.new)


@functools.cache
def _quickest_first() -> tuple[str, ...]:
    """The planner's tests. What is written by hand is over at once, and catches most; what is generated comes after."""
    paths = sorted(path for path in SUITE.glob("test_*.py") if path.name not in SLOW)
    paths.sort(key=lambda path: path.name != QUICKEST)
    written = [path for path in paths if "hypothesis" not in path.read_text()]
    generated = [path for path in paths if path not in written]
    every = [*written, ROOT / "tests/scenarios", *generated, *(SUITE / name for name in SLOW)]
    return tuple(str(path.relative_to(ROOT)) for path in every)


def survives(file: str, text: str) -> bool:
    """Whether the planner's own tests pass with `text` in place of `file`. A hang counts as caught."""
    with tempfile.TemporaryDirectory() as directory:
        copied = Path(directory)
        shutil.copytree(ROOT / "vllama", copied / "vllama", ignore=shutil.ignore_patterns("__pycache__"))
        (copied / "vllama" / "planner" / file).write_text(text)
        (copied / "tests").symlink_to(ROOT / "tests")
        shutil.copy(ROOT / "pyproject.toml", copied)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *_quickest_first()]
        try:
            done = subprocess.run(
                command, cwd=copied, env={**os.environ, "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
    if done.returncode not in {0, 1, 2}:
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def survivors(mutants: list[tuple[str, str, str]], *, jobs: int) -> Iterator[str]:
    """Names of (name, file, text) that no test catches, as they turn up."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        tried = {pool.submit(survives, file, text): name for name, file, text in mutants}
        for done in concurrent.futures.as_completed(tried):
            if done.result():
                yield tried[done]


SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
}  # fmt: skip


class _Turn(ast.NodeTransformer):
    """Turns the `which`-th place round; counts the places in `seen`."""

    def __init__(self, which: int) -> None:
        self.which, self.seen, self.line = which, 0, 0

    def _hit(self, node: ast.AST) -> bool:
        self.seen += 1
        if self.seen - 1 == self.which:
            self.line = getattr(node, "lineno", 0)
            return True
        return False

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """But not its decorators: without `slots` or `kw_only` a record of ours does what it did with them."""
        node.body = [self.visit(each) for each in node.body]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if type(node.ops[0]) in SWAPS and self._hit(node):
            node.ops[0] = SWAPS[type(node.ops[0])]()
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        if self._hit(node):
            node.op = SWAPS[type(node.op)]()
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if type(node.op) in SWAPS and self._hit(node):
            node.op = SWAPS[type(node.op)]()
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return node.operand if isinstance(node.op, ast.Not) and self._hit(node) else node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool) and self._hit(node):
            return ast.Constant(not node.value)
        return node


def turned(file: Path) -> Iterator[tuple[str, str, str]]:
    """(name, file name, text) for every place of `file` that can be turned round."""
    tree, which = ast.parse(file.read_text()), 0
    while True:
        turn = _Turn(which)
        mutated = turn.visit(copy.deepcopy(tree))
        if turn.seen <= which:
            return
        yield f"{file.name}:{turn.line} #{which}", file.name, ast.unparse(ast.fix_missing_locations(mutated))
        which += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--score", action="store_true")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.score:
        mutants = [each for file in sorted(PLANNER.glob("*.py")) for each in turned(file)]
        if options.sample:
            mutants = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
    else:
        mutants = [(mutant.name, mutant.file, plant(mutant)) for mutant in PLANTED]
    left = []
    for name in survivors(mutants, jobs=options.jobs):
        left.append(name)
        print(f"survives: {name}", flush=True)
    caught = len(mutants) - len(left)
    print(f"{caught} of {len(mutants)} caught: {100 * caught / len(mutants):.1f} %")
    sys.exit(bool(left) and not options.score)


if __name__ == "__main__":
    main()
