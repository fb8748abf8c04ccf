"""The house of vllama: imports point down only, and rooms on one floor do not know each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "vllama"
FLOORS = {
    "domain": 0, "planner": 1, "engine": 2, "runtime": 3, "simulator": 3, "controller": 4, "replay": 4,
    "gateway": 5, "cli": 6,
}  # fmt: skip
# Rooms of one floor that may know each other, and why.
NEIGHBOURS = {("runtime", "simulator"): "the simulated runtime runs the simulator on its devices"}
# Who may bring the outside world in. The pure floors have no business with any of these.
PURE_FLOORS = ("domain", "planner")
IMPURE = {"asyncio", "httpx", "logging", "os", "pathlib", "random", "socket", "structlog", "subprocess", "time", "uuid"}
FILES = sorted(ROOT.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return found


def room_of(path: Path) -> str | None:
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    room = room_of(path)
    if room is None:
        return
    assert room in FLOORS, f"vllama/{room} is on no floor"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "vllama" or len(parts) < 2 or parts[1] == room:
            continue
        other = parts[1]
        assert other in FLOORS, f"{path.name} imports {name}, which is on no floor"
        below = FLOORS[other] < FLOORS[room]
        assert below or (room, other) in NEIGHBOURS, f"{room}/{path.name} imports {name}: not below"


@pytest.mark.parametrize("room", PURE_FLOORS)
def test_the_pure_floors_touch_nothing_outside(room):
    for path in (ROOT / room).rglob("*.py"):
        outside = {name.split(".")[0] for name in imports_of(path)} & IMPURE
        assert not outside, f"{room}/{path.name} imports {sorted(outside)}"


def test_actions_are_matched_in_one_place_only():
    """Whoever else took actions apart would be a second actuator. Pure projections and renderings are not."""
    matching = [
        path for path in FILES if "case Start(" in path.read_text() and room_of(path) in {"controller", "runtime"}
    ]
    assert [path.name for path in matching] == ["actuator.py"]


def test_files_are_small_rooms():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: count for name, count in lengths.items() if count > 400}
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) // 2] < 150


def test_nothing_is_called_utils_or_manager():
    assert not [path for path in FILES if path.stem in {"utils", "util", "helpers", "manager", "common", "misc"}]
