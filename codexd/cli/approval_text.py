"""What waits for leave, as people must see it to decide. Nothing in it is hidden or left out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from codexd.cli.terminal import Paint, one_line
from codexd.shapes import Approval

_COMMANDS = ("commandExecution", "execCommand")


def gist(approval: Approval) -> str:
    """What it is, in one line."""
    summary = approval.summary
    if approval.kind in _COMMANDS:
        return one_line(_command(summary))
    if isinstance(summary.get("files"), list) and summary["files"]:
        return one_line(", ".join(str(file.get("path")) for file in _files(summary)))
    for key in ("message", "tool", "reason"):
        if isinstance(summary.get(key), str):
            return one_line(summary[key])
    return one_line(json.dumps(summary, ensure_ascii=False))


def details(approval: Approval, paint: Paint) -> Iterator[str]:
    """All of it, in lines."""
    summary = dict(approval.summary)
    yield paint(f"{approval.approval_id}: {_asks(approval.kind)}", "bold")
    if approval.kind in _COMMANDS:
        for line in _command(summary).split("\n"):
            yield f"  $ {one_line(line)}"
        summary.pop("command", None)
    for file in _files(summary):
        yield from _file_lines(file, paint)
    summary.pop("files", None)
    for key, value in summary.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"  {paint(f'{one_line(key)}:', 'dim')} {one_line(text)}"


def _asks(kind: str) -> str:
    return {
        "commandExecution": "may this be run?",
        "execCommand": "may this be run?",
        "fileChange": "may these files be changed?",
        "applyPatch": "may these files be changed?",
        "permissions": "may it have these permissions?",
        "userInput": "the agent asks",
        "elicitation": "a tool's server asks",
    }.get(kind, one_line(kind))


def _command(summary: dict[str, Any]) -> str:
    command = summary.get("command")
    if isinstance(command, list):
        return shlex.join(map(str, command))
    return str(command or "")


def _files(summary: dict[str, Any]) -> list[dict[str, Any]]:
    files = summary.get("files")
    return [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []


def _file_lines(file: dict[str, Any], paint: Paint) -> Iterator[str]:
    kind = file.get("kind")
    word = kind.get("type", "") if isinstance(kind, dict) else str(kind or "")
    yield f"  {one_line(str(word))} {one_line(str(file.get('path')))}".replace("   ", "  ")
    for line in str(file.get("diff") or "").splitlines():
        # A tab is a part of a file, and steers nothing.
        shown = one_line(line.replace("\t", "    "))
        yield "    " + (
            paint(shown, "green")
            if line.startswith("+")
            else paint(shown, "red")
            if line.startswith("-")
            else shown
        )
