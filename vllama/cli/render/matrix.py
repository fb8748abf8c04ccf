"""Which models can be awake together: `vllama plan --matrix`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from vllama.cli.render.table import cut
from vllama.cli.render.words import counted, one_line, wrapped

MOST_COLUMNS = 20
MOST_SETS = 20
LEAST_NAME = 12
_SIGNS = {"yes": "+", "depends": "~", "no": "-"}
_STYLES = {"yes": "green", "depends": "yellow", "no": "red"}
_LEGEND = "+ fit together   - do not"
_DEPENDS = "~ fit, but only if the first one called is not put where the other one has to be: else one makes room."

Pairs = Mapping[tuple[str, str], str]


def render_matrix(answer: Mapping[str, Any], *, width: int | None = None) -> Text:
    """`answer` is that of /admin/plan/matrix."""
    models: Sequence[str] = answer["models"]
    pairs = {(pair["a"], pair["b"]): pair["together"] for pair in answer["pairs"]}
    pairs |= {(b, a): together for (a, b), together in pairs.items()}
    lines = [*_said(_title(answer), width, style="bold"), Text("")]
    if models and len(models) <= MOST_COLUMNS and _name_width(models, width) >= min(LEAST_NAME, _longest(models)):
        lines += [*_table(models, pairs, width), Text(""), Text(_LEGEND, style="dim")]
    else:
        lines += _list(models, pairs, width)
    if "depends" in pairs.values():
        lines += _said(_DEPENDS, width, style="dim")
    if answer["left_out"]:
        said = f"{counted(answer['left_out'], 'more model')} left out: the first {len(models)} were looked at."
        lines += [Text(""), *_said(said, width, style="dim")]
    for model, why in answer["never"].items():
        lines += [Text(""), *_said(f"{model} never: {why}", width, indent="  ")]
    return Text("\n").join([*lines, *_sets(answer, width)])


def _title(answer: Mapping[str, Any]) -> str:
    pinned = f", beside the pinned {', '.join(answer['pinned'])}" if answer["pinned"] else ""
    return f"Awake together{pinned}, all others stopped"


def _longest(models: Sequence[str]) -> int:
    return max(len(model) for model in models)


def _name_width(models: Sequence[str], width: int | None) -> int:
    if width is None:
        return _longest(models)
    return min(_longest(models), width - _number_width(models) - 1 - len(models) * (_number_width(models) + 1) - 1)


def _number_width(models: Sequence[str]) -> int:
    return len(str(len(models)))


def _table(models: Sequence[str], pairs: Pairs, width: int | None) -> list[Text]:
    """Numbers stand for the names above the columns."""
    names, digits = _name_width(models, width), _number_width(models)
    head = " " * (digits + 1 + names + 1) + "".join(f" {number:>{digits}}" for number in range(1, len(models) + 1))
    lines = [Text(head, style="bold")]
    for number, model in enumerate(models, start=1):
        line = Text.assemble((f"{number:>{digits}} ", "bold"), cut(one_line(model), names).ljust(names), " ")
        for other in models:
            together = pairs.get((model, other))
            sign, style = (_SIGNS[together], _STYLES[together]) if together else (" ", "default")
            line.append(f" {sign:>{digits}}", style=style)
        line.rstrip()
        lines.append(line)
    return lines


def _list(models: Sequence[str], pairs: Pairs, width: int | None) -> list[Text]:
    """By model whom it goes with or whom it does not go with, whichever is said in fewer words."""
    lines: list[Text] = []
    for model in models:
        with_it = [other for other in models if pairs.get((model, other)) in {"yes", "depends"}]
        without = [other for other in models if pairs.get((model, other)) == "no"]
        if not without:
            said = "with everybody" if with_it else "alone"
        elif len(with_it) <= len(without):
            said = f"with {', '.join(map(_marked(model, pairs), with_it))}" if with_it else "with nobody"
        else:
            said = f"with all but {', '.join(without)}"
        lines += _said(f"{model}: {said}", width, indent="    ")
    return lines


def _marked(model: str, pairs: Pairs) -> Any:
    return lambda other: f"~{other}" if pairs[model, other] == "depends" else other


def _sets(answer: Mapping[str, Any], width: int | None) -> list[Text]:
    if not answer["models"]:
        return []
    if answer["sets"] is None:
        said = "The largest sets are worked out for 12 models and fewer."
        return [Text(""), *_said(said, width, style="dim")]
    lines = [Text(""), Text("At most at once", style="bold")]
    for names in answer["sets"][:MOST_SETS]:
        lines += [Text(line) for line in wrapped(", ".join(names), width, indent="    ", first="  ")]
    if (hidden := len(answer["sets"]) - MOST_SETS) > 0:
        lines.append(Text(f"  and {hidden} more; -o json has them all", style="dim"))
    if not answer["searched_all"]:
        said = "There may be larger ones: the search for them was given up after a second."
        lines += [Text(""), *_said(said, width, style="dim")]
    return lines


def _said(text: str, width: int | None, *, style: str = "default", indent: str = "  ") -> list[Text]:
    return [Text(line, style=style) for line in wrapped(text, width, indent=indent, first="")]
