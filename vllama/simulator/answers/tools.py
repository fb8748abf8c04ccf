"""Calls of tools. A simulated model calls the first tool that it may, once; when it has the result it speaks."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vllama.simulator.answers.generation import Generated, Prompt, random_id
from vllama.simulator.server_state import ServerState
from vllama.simulator.web import bad_value, refused

_EXAMPLES: dict[object, Any] = {
    "string": "text",
    "integer": 1,
    "number": 0.5,
    "boolean": True,
    "array": [],
    "null": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """`pieces`: the JSON of the arguments, as a stream cuts it. `forced`: by name, which ends as if nothing was called.
    `chosen`: the model was free to speak instead.
    """

    name: str
    pieces: tuple[str, ...]
    forced: bool
    chosen: bool

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def over(self, prompt: Prompt) -> Prompt:
        """As many steps as it has pieces, unless the answer may not be that long."""
        short = prompt.finish_reason == "length" and prompt.steps < len(self.pieces)
        steps = prompt.steps if short else len(self.pieces)
        return replace(prompt, steps=steps, finish_reason="length" if short else "stop", stop=())

    def reason(self, finish_reason: str | None) -> str | None:
        return "tool_calls" if finish_reason == "stop" and not self.forced else finish_reason

    def unfinished(self, answer: Generated) -> str:
        """What the model wrote, where that is no call yet."""
        return f'<tool_call>\n{{"name": "{self.name}", "arguments": {"".join(self.pieces[: answer.tokens])}'


def make_call_id() -> str:
    return f"chatcmpl-tool-{random_id()}"


def planned_call(body: Mapping[str, Any], state: ServerState) -> Call | None:
    """None: it speaks. ApiError in vLLM's words."""
    tools, choice = body.get("tools"), body.get("tool_choice", "auto" if body.get("tools") else "none")
    if tools == []:
        why = "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely."
        raise bad_value(why, "tools")
    if choice is None or choice == "none":
        return None
    if not tools:
        raise bad_value("When using `tool_choice`, `tools` must be set.", "tool_choice")
    functions = {tool["function"]["name"]: tool["function"] for tool in tools}
    wanted = choice["function"]["name"] if isinstance(choice, dict) else next(iter(functions))
    if wanted not in functions:
        why = "The tool specified in `tool_choice` does not match any of the specified `tools`"
        raise bad_value(why, "tool_choice")
    _check_parser(choice, wanted, state)
    if choice == "auto" and _has_result(body.get("messages")):
        return None
    arguments = json.dumps(_example(functions[wanted].get("parameters")))
    pieces = tuple(re.findall(r".{1,4}", arguments))
    return Call(name=wanted, pieces=pieces, forced=isinstance(choice, dict), chosen=choice == "auto")


def _check_parser(choice: Any, wanted: str, state: ServerState) -> None:
    if state.command.tool_parser:
        return
    if choice == "auto":
        raise refused('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    said = f'function "{wanted}"' if isinstance(choice, dict) else f'"{choice}"'
    raise refused(f"tool_choice={said} requires --tool-call-parser to be set")


def _has_result(messages: Any) -> bool:
    return isinstance(messages, list) and bool(messages) and messages[-1].get("role") == "tool"


def _example(schema: Any) -> Any:
    """A value that the schema allows, as far as it is a simple one."""
    if not isinstance(schema, Mapping):
        return {}
    if "const" in schema:
        return schema["const"]
    choices: Sequence[Any] = schema.get("enum") or ()
    if choices:
        return choices[0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind != "object":
        return _EXAMPLES.get(kind)
    return {name: _example(inner) for name, inner in (schema.get("properties") or {}).items()}
