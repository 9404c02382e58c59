"""`codexd doctor`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec

from codexd.cli.options import BadValue, json_option, told_options
from codexd.cli.terminal import Paint, Style, columns, is_terminal, one_line, painter
from codexd.client.find import DaemonPlace, NoPlace, locate, working_directory
from codexd.doctor.examine import CHECKS, examine
from codexd.doctor.finding import Finding, Verdict
from codexd.doctor.scene import Scene
from codexd.encoding import encode_json
from codexd.service.choose import installed_program
from codexd.settings import SettingError
from codexd.settings_file import SettingsFile, read_settings_file, settings_path

_MARKS: Final[Mapping[Verdict, tuple[str, Style]]] = {
    "ok": ("✓", "green"),
    "warn": ("!", "yellow"),
    "failed": ("✗", "red"),
}
_COLUMN: Final = max(len(name) for name in CHECKS)


@click.command("doctor")
@json_option
@told_options
def doctor(flags: dict[str, Any], file: str | None, as_json: bool) -> None:
    """Look for what usually goes wrong, and say how to mend it.

    Changes nothing. Exit code 1 where something is wrong. Not on a terminal it is a line for each
    check, parted by tabs: ok, warn or failed, the check, what was found, what to do.
    """
    scene = make_scene(flags, file)
    findings: list[tuple[str, Finding]] = []
    is_for_people, paint = is_terminal() and not as_json, painter()
    for name, finding in examine(scene):
        findings.append((name, finding))
        if is_for_people:
            click.echo(format_finding(name, finding, columns(), paint))
        elif not as_json:
            click.echo(format_line(name, finding))
    is_well = all(finding.status != "failed" for _, finding in findings)
    if as_json:
        checks = [{"name": name, **msgspec.to_builtins(finding)} for name, finding in findings]
        click.echo(msgspec.json.format(encode_json({"healthy": is_well, "checks": checks})))
    elif is_for_people:
        click.echo(summary([finding for _, finding in findings]))
        where = tell_where(findings, os.environ.get("PATH"))
        if where is not None:
            click.echo(where)
    if not is_well:
        sys.exit(1)


def make_scene(flags: dict[str, Any], named: str | None) -> Scene:
    """What there is to look at; settings that cannot be used are left out and told.

    Raises:
        BadValue: a flag that cannot be used, or nothing says which daemon is meant.
    """
    faults: list[str] = []
    file: SettingsFile | None = None
    try:
        file = read_settings_file(named, os.environ)
    except SettingError as error:
        faults.append(str(error))
    environ: Mapping[str, str] = os.environ
    try:
        place = _locate(flags, environ, file)
    except SettingError as error:
        faults.append(str(error))
        environ = {key: text for key, text in environ.items() if not key.startswith("BAA_")}
        # What is wrong in a flag is so again.
        place = _locate(flags, environ, file)
    path = settings_path(named, os.environ) if file is not None else None
    return Scene(place.config, place.process, dict(os.environ), tuple(faults), path)


def _locate(
    flags: dict[str, Any], environ: Mapping[str, str], file: SettingsFile | None
) -> DaemonPlace:
    try:
        return locate(flags, environ, cwd=working_directory(), file=file)
    except NoPlace as error:
        raise BadValue(str(error)) from error


def format_line(name: str, finding: Finding) -> str:
    """A check for programs that read lines."""
    cells = (finding.status, name, finding.detail, finding.mend or "-")
    return "\t".join(one_line(cell) for cell in cells)


def format_finding(name: str, finding: Finding, width: int, paint: Paint) -> str:
    """A check for people, no line longer than ``width`` where words can be parted."""
    mark, style = _MARKS[finding.status]
    arrow = "→"
    if os.environ.get("TERM") == "dumb" or not _can_show("✓✗→"):
        mark, arrow = finding.status.ljust(len("failed")), "->"
    indent = " " * (len(mark) + 1 + _COLUMN + 2)
    room = max(width - len(indent), _COLUMN)
    told = textwrap.wrap(one_line(finding.detail), room, break_on_hyphens=False)
    head = f"{paint(mark, style)} {name.ljust(_COLUMN)}  {told[0]}"
    lines = [head, *(f"{indent}{line}" for line in told[1:])]
    if finding.mend is not None:
        # A command is copied: it stays in one piece.
        lines.append(f"{indent}{arrow} {one_line(finding.mend)}")
    return "\n".join(lines)


def summary(findings: list[Finding]) -> str:
    """The last line."""
    wrong = sum(finding.status == "failed" for finding in findings)
    doubtful = sum(finding.status == "warn" for finding in findings)
    if not wrong and not doubtful:
        return "All is well."
    return f"{wrong} wrong, {doubtful} to look at, {len(findings) - wrong - doubtful} well."


def tell_where(findings: list[tuple[str, Finding]], path: str | None) -> str | None:
    """Where codexd is, for who is to type it and has it on no PATH: in a checkout, say."""
    is_told = any(finding.mend and "codexd " in finding.mend for _, finding in findings)
    if not is_told or shutil.which("codexd", path=path) is not None:
        return None
    return f"codexd is on no PATH here: type {shlex.join(installed_program())} for it."


def _can_show(marks: str) -> bool:
    try:
        marks.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
