"""The shell commands of the documentation: its blocks, and the simple commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").rglob("*.md"))]

# What stands behind the language is shown to no reader: "```sh not run: it takes an hour".
_FENCE = re.compile(r"^( *)```(\w+)(?: +([^\n]+))?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = "not run: "
_INNER = re.compile(r"\$\(((?:[^()']|'[^']*'|\([^()]*\))*)\)")
_COMMENT = re.compile(r"(?m)(^|\s)#.*$")
_ENDS = set(";&|()\n")
_WORDS_BEFORE = {"if", "then", "else", "do", "while", "!", "{", "exec", "sudo", "time"}


@dataclass(frozen=True)
class Block:
    """One block of commands for a shell."""

    page: Path
    line: int
    text: str
    mark: str | None

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def not_run(self) -> str | None:
        """Why no test runs it; None where one does."""
        return self.mark.removeprefix(_NOT_RUN) if self.mark is not None else None

    @property
    def is_marked_well(self) -> bool:
        """Whether what it is marked with is a reason."""
        return self.mark is None or (self.mark.startswith(_NOT_RUN) and self.not_run != "")


def blocks_of(page: Path, text: str, language: str = "sh") -> Iterator[Block]:
    """Every block of a page in that language."""
    for found in _FENCE.finditer(text):
        indent, its_language, mark, body = found.groups()
        if its_language == language:
            body = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
            yield Block(page, text.count("\n", 0, found.start()) + 2, body, mark)


def typed_in(session: str) -> str:
    """What was typed in a session that was recorded: what follows the prompts."""
    return "\n".join(re.findall(r"^\$ (.*)$", session, re.MULTILINE))


def all_blocks() -> list[Block]:
    """Every block of every page."""
    return [block for page in PAGES for block in blocks_of(page, page.read_text())]


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of each simple command, also of those within $(…); what is assigned is left out."""
    text = _COMMENT.sub("", text).replace("\\\n", " ")
    inner: list[str] = []

    def take(found: re.Match[str]) -> str:
        inner.append(found[1])
        return "SUBSTITUTED"

    text = _INNER.sub(take, text)
    for part in inner:
        yield from commands_in(part)
    words: list[str] = []
    for word in [*_lexed(text), "\n"]:
        if set(word) <= _ENDS and word:
            command = _plain(words)
            if command:
                yield command
            words = []
        else:
            words.append(word)


def _lexed(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()<>\n")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def _plain(words: list[str]) -> list[str]:
    """Without assignments, words of the shell's own, and redirections."""
    while words and (words[0] in _WORDS_BEFORE or re.match(r"\w+=", words[0])):
        words = words[1:]
    kept: list[str] = []
    following = iter(words)
    for word in following:
        if set(word) <= set("<>"):
            next(following, None)
        else:
            kept.append(word)
    return kept
