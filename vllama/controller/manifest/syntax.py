"""What PyYAML says of text that is no YAML, in words that help."""

import yaml

from vllama.controller.manifest.problems import Problem, shortened

# (a part of PyYAML's message, what to say instead); the first that fits
_HELP = (
    ("'\\t' that cannot start", "a tab cannot indent YAML; use spaces"),
    ("cannot start any token", "a value cannot start with this character; put it in quotes"),
    ("mapping values are not allowed", "a ':' is out of place; check the indentation, or put the value in quotes"),
    ("could not find expected ':'", "a key without ':'; every key is written 'key: value'"),
    ("expected <block end>", "this line fits none of the indentations above it; align it with its neighbours"),
    ("expected ',' or", "a '{' or '[' is not closed before this; a value with one of , { } [ ] needs quotes"),
    ("did not find expected", "a '{' or '[' is not closed before this; a value with one of , { } [ ] needs quotes"),
    ("found unexpected end of stream", "a quote is opened and never closed"),
    ("found undefined alias", "this alias (*name) has no anchor (&name) above it; in a value, '*' needs quotes"),
    ("found duplicate anchor", "this anchor (&name) is set twice"),
    ("expected a single document", "'---' begins a second document here; this file is one document"),
    ("found unknown escape character", "this backslash means nothing in double quotes; use single quotes"),
)


def problem_of(error: Exception, *, file: str, text: str) -> Problem:
    """`error` as PyYAML raised it while reading `text`, with line and column where it has them."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or "this is not YAML"
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        return Problem(file=file, line=line, column=column, path=(), text=_helpful(error, said))
    if isinstance(error, yaml.reader.ReaderError):
        position = error.position
        line_start = text.rfind("\n", 0, position) + 1
        line, column = text.count("\n", 0, position) + 1, position - line_start + 1
        said = "a control character that YAML does not allow; in double quotes it can be written as \\x.."
        return Problem(file=file, line=line, column=column, path=(), text=said)
    if isinstance(error, RecursionError):
        return Problem(file=file, line=None, path=(), text="the nesting is too deep to read")
    return Problem(file=file, line=None, path=(), text=shortened(f"this is not YAML: {error}"))


def _helpful(error: yaml.MarkedYAMLError, said: str) -> str:
    whole = f"{error.context}; {error.problem}"
    return next((help_text for part, help_text in _HELP if part in whole), shortened(said))
