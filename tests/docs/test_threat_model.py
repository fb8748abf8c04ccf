"""Every line that docs/threat-model.md calls defended names tests, and these are there."""

from tests.docs.test_parity import NAMED, ROOT, names_in

LINES = (ROOT / "docs" / "threat-model.md").read_text().splitlines()
DEFENDED = [
    line.strip("| ").split(" | ")
    for line in LINES[: LINES.index("## Not defended")]
    if line.startswith("| ") and not line.endswith(("| shown by |", "| what crosses it |"))
]


def test_what_is_defended_is_shown_by_a_test_that_is_there() -> None:
    tables = [row for row in DEFENDED if NAMED.search(row[-1])]
    assert len(tables) >= 40
    for row in DEFENDED:
        named = NAMED.findall(row[-1])
        if row not in tables:
            assert row[0] in {
                "the port", "an engine's port on loopback",
                "an engine's port on the network, where there are several machines",
                "the engine", "the hub", "servers that others run", "files",
            }, f"no test for: {row[0]}"  # fmt: skip
        missing = [f"{file}::{name}" for file, name in named if name not in names_in(file)]
        assert not missing, row[0]


def test_what_is_not_defended_is_said() -> None:
    said = LINES[LINES.index("## Not defended") :]
    assert len([line for line in said if line.startswith("- **")]) >= 9
