"""The wall clock is for people and files: what is decided by it goes wrong when somebody sets it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent / "vllama"

# Where a person, a file or a protocol is told what time it is.
FOR_PEOPLE = {
    "cli/card.py", "cli/happenings.py", "cli/keys.py", "cli/lease.py", "cli/machine.py", "cli/ps.py", "cli/serve.py",
    "cli/top.py", "controller/controller.py", "controller/enquiries.py", "controller/events.py",
    "controller/servers/servers.py", "gateway/access/line.py", "gateway/app.py",
    "gateway/ollama/exchange.py", "gateway/ollama/routes.py", "gateway/wire/realtime.py", "gateway/wire/stamp.py",
    "controller/history/history.py", "controller/transitions.py", "gateway/history.py", "cli/explain.py",
    "cli/recorded.py", "gateway/recording.py", "gateway/watch.py", "simulator/server_state.py",
    "cli/nodes.py", "cli/pull.py",  # the age of files, which have no other clock
}  # fmt: skip
WALL = {("time", "time"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}


def asks_the_wall_clock(path: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in WALL
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_nothing_is_decided_by_the_wall_clock():
    found = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if asks_the_wall_clock(path)}
    assert found - FOR_PEOPLE == set()
    assert not any(name.startswith(("planner/", "domain/", "runtime/")) for name in found)
