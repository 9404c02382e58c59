"""The man page: made of what the commands' own help and the table of settings say."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

import click

from codexd import __version__
from codexd.cli.groups import GROUPS
from codexd.cli.help import TOPICS
from codexd.cli.main import COMMANDS, cli
from codexd.settings import BY_NAME, SETTINGS

# Wide enough that nothing is broken: roff does that.
_ONE_LINE = 10_000
_FILES = (
    ("~/.config/codexd/codexd.toml", "Settings, by name; see SETTINGS."),
    ("STATE/codexd", "State files, and in run/ the sockets of a running daemon."),
    ("LOGS/codexd", "events.jsonl, stdout.log, stderr.log, codexd.log; rotated ones beside them."),
)


def man_page() -> str:
    """codexd(1), in roff's man macros."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.TH CODEXD 1 "" "codexd {__version__}" "User Commands"'
    yield from _section("NAME", [r"codexd \- keep one codex app\-server running, and share it"])
    yield from _section("SYNOPSIS", [r"\fBcodexd\fR [\fICOMMAND\fR] [\fIOPTIONS\fR]"])
    yield from _section("DESCRIPTION", _paragraphs(cli.help or ""))
    context = click.Context(cli, info_name="codexd")
    for title, rows in GROUPS.items():
        yield from _section(f"COMMANDS: {title.upper()}", ())
        for name in rows:
            command = cli.get_command(context, name) if name in COMMANDS else None
            if command is not None:
                yield from _command(name, command, context)
                for verb, below in _verbs(command):
                    yield from _command(f"{name} {verb}", below, context)
    yield from _section("SETTINGS", _paragraphs(_intro()))
    for setting in SETTINGS:
        told = f"[{', '.join(setting.env)}; default: {setting.default_text}]"
        yield from _entry(f"{setting.flag} {setting.metavar}", [setting.help, told])
    yield from _section("WHICH DAEMON", [".nf", *map(_text, _topic("which")), ".fi"])
    yield from _section("EXIT STATUS", [".nf", *map(_text, _topic("exit-codes")), ".fi"])
    yield from _section("FILES", ())
    for path, meaning in _FILES:
        yield from _entry(path, [meaning])
    yield from _section("SEE ALSO", [r"\fBcodex\fR(1), \fBcircusctl\fR(1)"])


def _intro() -> str:
    """What stands above the settings on their own page."""
    return TOPICS["settings"](_ONE_LINE).partition("\n\n")[0]


def _topic(name: str) -> list[str]:
    return TOPICS[name](_ONE_LINE).splitlines()


def _command(name: str, command: click.Command, above: click.Context) -> Iterator[str]:
    context = click.Context(command, above, info_name=name)
    own = [item for item in command.params if item.name not in BY_NAME]
    arguments = [
        piece
        for item in own
        if isinstance(item, click.Argument)
        for piece in item.get_usage_pieces(context)
    ]
    yield f".SS {_text(' '.join(['codexd', name, *arguments]))}"
    yield from _paragraphs(command.help or "")
    records = (item.get_help_record(context) for item in own if isinstance(item, click.Option))
    for option, meaning in filter(None, records):
        yield from _entry(option, [meaning])


def _verbs(command: click.Command) -> Iterable[tuple[str, click.Command]]:
    return command.commands.items() if isinstance(command, click.Group) else ()


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f".SH {_text(title)}"
    yield from lines


def _entry(head: str, texts: Iterable[str]) -> Iterator[str]:
    yield ".TP"
    yield f"\\fB{_text(head)}\\fR"
    yield from (_text(" ".join(text.split())) for text in texts)


def _paragraphs(help_: str) -> Iterator[str]:
    """The paragraphs of a help text; one that begins with click's \\b keeps its lines."""
    for number, paragraph in enumerate(inspect.cleandoc(help_).split("\n\n")):
        if number:
            yield ".PP"
        lines = paragraph.splitlines()
        if lines[0].strip() == "\b":
            yield from (".nf", *map(_text, lines[1:]), ".fi")
        else:
            yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """``text`` as roff shows it."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in escaped)
    # A line that begins so would be a request.
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
