"""What `vllama doctor` found: a line each, below it what to do."""

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from vllama.cli.doctor.finding import Finding, Verdict
from vllama.cli.render.words import counted, wrapped

STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}
_VERDICT_COLUMNS, _CHECK_COLUMNS = 6, 15


def render_doctor(findings: Sequence[Finding], *, width: int | None = None) -> Text:
    lines: list[Text] = []
    for finding in findings:
        lines += _lines(finding, width)
    return Text("\n").join([*lines, Text(""), _sum(findings)])


def _lines(finding: Finding, width: int | None) -> list[Text]:
    head = f"{finding.verdict.value:<{_VERDICT_COLUMNS}}{finding.check:<{_CHECK_COLUMNS}}"
    indent = " " * len(head)
    lines = [Text(line) for line in wrapped(finding.text, width, indent=indent, first=head)]
    lines[0].stylize(STYLES[finding.verdict], 0, len(finding.verdict.value))
    if finding.mend:
        lines += [
            Text(line, style="dim") for line in wrapped(finding.mend, width, indent=indent, first=f"{indent[:-3]}-> ")
        ]
    return lines


def _sum(findings: Sequence[Finding]) -> Text:
    counts = Counter(finding.verdict for finding in findings)
    if not counts[Verdict.FAIL] and not counts[Verdict.WARN]:
        return Text("Nothing is wrong.")
    said = [counted(counts[Verdict.FAIL], "failure")] if counts[Verdict.FAIL] else []
    said += [counted(counts[Verdict.WARN], "warning")] if counts[Verdict.WARN] else []
    return Text(f"{' and '.join(said)}.")
