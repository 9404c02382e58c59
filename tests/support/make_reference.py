"""Writes what the reference pages take from the code: `python -m tests.support.make_reference`.

A page holds it between ``<!-- generated: NAME -->`` and ``<!-- end -->``. The man page is all made.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click
import msgspec

from codexd.api.openapi import describe
from codexd.api.table import Nothing, Row
from codexd.child.machine import MEANING, TABLE, WORDS, Action, Event, State
from codexd.child.spare import SPARE_MEANING, SPARE_TABLE, SpareState
from codexd.cli.main import COMMANDS, cli
from codexd.cli.manual import man_page
from codexd.keeper.metric_table import METRICS, PREFIX
from codexd.settings import BY_NAME, SETTINGS
from tests.support.nouns import all_rows
from tests.support.rooms import ROOMS

_ROOT = Path(__file__).resolve().parents[2]
REFERENCE = _ROOT / "docs/reference"
# Every page that holds a generated section.
PAGES = (*sorted(REFERENCE.glob("*.md")), _ROOT / "docs/explanation/architecture.md")
MAN_PAGE = _ROOT / "docs/man/codexd.1"
_SECTION = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_table() -> str:
    """Every setting: flag, variables, key in codexd.toml, default, meaning."""
    lines = [
        "| Flag | Environment | Key | Default | Meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for setting in SETTINGS:
        variables = ", then ".join(f"`{name}`" for name in setting.env)
        flag = f"`{setting.flag} {setting.metavar}`"
        key = f"`{setting.name}`"
        lines.append(_row(flag, variables, key, setting.default_text, setting.help))
    return "\n".join(lines)


def command_list() -> str:
    """Every command with its own options; those of the settings are common to all."""
    context = click.Context(cli, info_name="codexd")
    parts = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        within = click.Context(command, context, info_name=name)
        parts.append(_describe(name, command, within))
        if isinstance(command, click.Group):
            for verb, sub in command.commands.items():
                parts.append("#" + _describe(f"{name} {verb}", sub, click.Context(sub, within)))
    return "\n\n".join(parts)


def _describe(name: str, command: click.Command, context: click.Context) -> str:
    own = [parameter for parameter in command.params if parameter.name not in BY_NAME]
    arguments = [
        piece
        for parameter in own
        if isinstance(parameter, click.Argument)
        for piece in parameter.get_usage_pieces(context)
    ]
    verbs = [f"[{'|'.join(command.commands)}]"] if isinstance(command, click.Group) else []
    usage = " ".join(["codexd", name, *verbs, "[OPTIONS]", *arguments])
    lines = [f"## {name}", f"`{usage}`", inspect.cleandoc(command.help or "")]
    records = [p.get_help_record(context) for p in own if isinstance(p, click.Option)]
    rows = [_row(f"`{flag}`", help_) for flag, help_ in filter(None, records)]
    if rows:
        lines.append("\n".join(["| Option | Meaning |", "| --- | --- |", *rows]))
    return "\n\n".join(lines)


def _row(*cells: str) -> str:
    texts = [" ".join(cell.split()).replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(texts)} |"


def state_table() -> str:
    """Each state, what it means, and the word for it in daemon-state.json."""
    rows = [_row(f"**{state}**", MEANING[state], WORDS[state]) for state in State]
    return "\n".join(["| State | Meaning | In the record |", "| --- | --- | --- |", *rows])


def transition_table() -> str:
    """What each event leads to; states in which it leads to the same share a row."""
    lines = ["| Event | In | Then | What is done |", "| --- | --- | --- | --- |"]
    for event in Event:
        shared: dict[tuple[str, tuple[Action, ...]], list[str]] = {}
        for (state, what), (then, actions) in TABLE.items():
            if what is event:
                target = "the same" if then is state else f"**{then}**"
                shared.setdefault((target, actions), []).append(state)
        for (target, actions), states in shared.items():
            done = "; ".join(actions) or "nothing"
            lines.append(_row(event, ", ".join(states), target, done))
    return "\n".join(lines)


def spare_table() -> str:
    """Each state of the spare, what it means, and what leads out of it."""
    lines = ["| State | Meaning | What can happen |", "| --- | --- | --- |"]
    for state in SpareState:
        ways = []
        for (at, event), (then, actions) in SPARE_TABLE.items():
            if at is state:
                done = f" ({'; '.join(actions)})" if actions else ""
                ways.append(f"{event}: **{then}**{done}")
        lines.append(_row(f"**{state}**", SPARE_MEANING[state], "; ".join(ways)))
    return "\n".join(lines)


def transition_drawing() -> str:
    """The same, as a drawing; events that lead between the same two states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), (then, _) in TABLE.items():
        if state is not then:
            pair = (state.name.lower(), then.name.lower())
            arrows.setdefault(pair, []).append(event.value)
    lines = [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in sorted(arrows.items())]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> off", *lines, "```"])


def metric_table() -> str:
    """Every metric: type, labels, meaning."""
    lines = ["| Metric | Type | Labels | Meaning |", "| --- | --- | --- | --- |"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(_row(f"`{PREFIX}{metric.name}`", metric.kind, labels, metric.help))
    return "\n".join(lines)


def room_table() -> str:
    """Each room and its sentence, the highest first."""
    names = [room for rank in ROOMS for room in rank]
    rows = [_row(f"`{name}`", (inspect.getdoc(_room(name)) or "").split("\n")[0]) for name in names]
    return "\n".join(["| Room | What is in it |", "| --- | --- |", *rows])


def _room(name: str) -> object:
    return importlib.import_module(f"codexd.{name}")


def route_list() -> str:
    """Every route: who may, what is sent, and what comes back."""
    document = describe(all_rows())
    return "\n\n".join(_describe_route(row, document) for row in all_rows())


def _describe_route(row: Row, document: Mapping[str, Any]) -> str:
    operation = document["paths"][row.path][row.method.lower()]
    lines = [f"### {row.method} {row.path}", f"{row.summary} *Access: {row.access.name.lower()}.*"]
    sent = [
        _row("query", f"`{item['name']}`", _parameter(item))
        for item in operation["parameters"]
        if item["in"] == "query"
    ]
    if row.body is not None:
        schema = document["components"]["schemas"][row.body.__name__]
        required = schema.get("required", [])
        sent += [
            _row("body", f"`{name}`", _field(shape, name in required))
            for name, shape in schema["properties"].items()
        ]
    if sent:
        lines.append("\n".join(["| Where | Name | What |", "| --- | --- | --- |", *sent]))
    for struct in (row.query, row.body):
        if struct is not None and struct is not Nothing:
            lines.append((inspect.getdoc(struct) or "").replace("``", "`"))
    answers = [_answer(row.status, row.answer, (row.media_type, *row.streams))]
    answers += [_answer(status, kind, (row.media_type,)) for status, kind in row.also.items()]
    answers += [f"{status.value} (a problem)" for status in row.problems]
    lines.append(f"Answers {'; '.join(answers)}.")
    return "\n\n".join(lines)


def _parameter(item: Mapping[str, Any]) -> str:
    """A list is a parameter that is given again."""
    schema = item["schema"]
    if schema.get("type") == "array":
        return f"{_shape(schema['items'])}; may be repeated"
    return _field(schema, item["required"])


def _field(schema: Mapping[str, Any], is_required: bool) -> str:
    return _shape(schema) + (", required" if is_required else "")


def _shape(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in schema:
        words = " or ".join(_shape(option) for option in schema["anyOf"])
    elif "$ref" in schema:
        words = f"`{schema['$ref'].rpartition('/')[2]}`"
    elif "enum" in schema:
        words = ", ".join(f"`{value}`" for value in schema["enum"])
    elif schema.get("type") == "array":
        words = f"list of {_shape(schema.get('items', {}))}"
    else:
        words = str(schema.get("type", "anything"))
    for key, word in (("minimum", "at least"), ("maximum", "at most")):
        words += f", {word} {schema[key]}" if key in schema else ""
    if schema.get("default") not in (None, [], {}):
        words += f"; default {json.dumps(schema['default'])}"
    return words + (f". {schema['description']}" if "description" in schema else "")


def _answer(status: HTTPStatus, kind: Any, media_types: Sequence[str]) -> str:
    forms = ", ".join(f"`{media_type}`" for media_type in media_types)
    if kind is None:
        return str(status.value)
    is_record = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    return f"{status.value}{f' `{kind.__name__}`' if is_record else ''} ({forms})"


def answer_list() -> str:
    """The records that are answered, with their fields."""
    schemas = describe(all_rows())["components"]["schemas"]
    sent = {row.body.__name__ for row in all_rows() if row.body is not None}
    rows = [
        _row(f"`{name}`", f"`{field}`", _shape(shape))
        for name, schema in schemas.items()
        if name not in sent
        for field, shape in schema.get("properties", {}).items()
    ]
    return "\n".join(["| Record | Field | What |", "| --- | --- | --- |", *rows])


SECTIONS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "commands": command_list,
    "transitions": transition_table,
    "drawing": transition_drawing,
    "states": state_table,
    "spare": spare_table,
    "rooms": room_table,
    "routes": route_list,
    "answers": answer_list,
    "metrics": metric_table,
}


def updated(text: str) -> str:
    """A page with its generated sections as the code has them now."""

    def fill(found: re.Match[str]) -> str:
        return f"{found[1]}\n{SECTIONS[found[2]]()}\n\n{found[3]}"

    return _SECTION.sub(fill, text)


def main() -> None:
    """Write every page."""
    for page in PAGES:
        page.write_text(updated(page.read_text()))
    MAN_PAGE.parent.mkdir(exist_ok=True)
    MAN_PAGE.write_text(man_page())


if __name__ == "__main__":
    main()
