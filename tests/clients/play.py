"""The play that every client is in: a turn, a kill in the middle of the next, and one more."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.clients.stage import ANSWER, Stage

_FIRST_S = 40.0
_CUT_S = 15.0
_AFTER_S = 20.0
_MARK = "@@"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the three turns, each as its client told it."""

    first: str
    cut: str = ""
    after: str = ""

    @property
    def works(self) -> bool:
        """Whether it had a turn at all."""
        return self.first == "answered"

    @property
    def survives(self) -> bool:
        """Whether the cut turn ended, and the next one was answered."""
        return self.works and self.cut != "no end" and self.after == "answered"


class Actor(Protocol):
    """One client that runs."""

    def ask(self, text: str) -> None:
        """Begin a turn."""

    def heard(self, within_s: float) -> str:
        """How it ended: "answered", what its client says instead, or "no end"."""

    def close(self) -> None:
        """End it."""


class Scripted:
    """A client in a process of its own: a line of input is a turn, a marked line its end."""

    def __init__(self, stage: Stage, command: list[str], log: str = "client.err") -> None:
        with open(stage.root / log, "ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=stage.env,
                cwd=stage.root,
            )
        self._said: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_MARK):
                self._said.put(line[len(_MARK) :])
        self._said.put(None)

    def ask(self, text: str) -> None:
        """See :class:`Actor`."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(text + "\n")
            self._process.stdin.flush()

    def heard(self, within_s: float) -> str:
        """See :class:`Actor`."""
        try:
            line = self._said.get(timeout=within_s)
        except queue.Empty:
            return "no end"
        if line is None:
            self._said.put(None)
            return "its process ended"
        return _told(json.loads(line))

    def close(self) -> None:
        """See :class:`Actor`."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)


def _told(what: dict[str, str | None]) -> str:
    if what.get("error"):
        return f"error: {what['error']}"
    text = what.get("text") or ""
    return "answered" if ANSWER in text else f"ended with {text[:40]!r}"


def play(stage: Stage, cast: Callable[[], Actor], count: int) -> Outcome:
    """Have ``count`` clients play side by side; the outcome of the one that fared worst."""
    with _actors(cast, count) as actors:
        for actor in actors:
            actor.ask("one")
        first = [actor.heard(_FIRST_S) for actor in actors]
        if any(told != "answered" for told in first):
            return Outcome(_worst(first))
        before = stage.hold()
        for actor in actors:
            actor.ask("two")
        stage.wait_for_requests(before + count)
        stage.kill_servers()
        cut = [actor.heard(_CUT_S) for actor in actors]
        if "no end" in cut:
            return Outcome("answered", "no end")
        for actor in actors:
            actor.ask("three")
        return Outcome("answered", _worst(cut), _worst([actor.heard(_AFTER_S) for actor in actors]))


def _worst(told: list[str]) -> str:
    return next((entry for entry in told if entry != "answered"), "answered")


@contextlib.contextmanager
def _actors(cast: Callable[[], Actor], count: int) -> Iterator[list[Actor]]:
    actors: list[Actor] = []
    try:
        for _ in range(count):
            actors.append(cast())
        yield actors
    finally:
        for actor in actors:
            actor.close()


def python_actor(stage: Stage, python: Path, script: str) -> Actor:
    """A client in Python. ``script`` defines `async def turns(codex)`, which yields once it is
    connected, and from then on is sent a text for each turn and yields the answer.
    """
    return Scripted(stage, [str(python), "-c", _PYTHON + script + _PYTHON_MAIN, stage.codex])


def node_actor(stage: Stage, directory: Path, script: str) -> Actor:
    """A client in JavaScript. ``script`` defines `async function connect(codex)`, which returns a
    function that takes a text for a turn and returns the answer.
    """
    file = directory / "play.mjs"
    file.write_text(script + _NODE_MAIN, "utf-8")
    return Scripted(stage, ["node", str(file), stage.codex])


_PYTHON = """
import asyncio, json, os, sys

def say(**what):
    print("@@" + json.dumps(what), flush=True)

"""
_PYTHON_MAIN = """

async def main():
    loop = asyncio.get_running_loop()
    playing = turns(sys.argv[1])
    failed = None
    try:
        await anext(playing)
    except Exception as error:
        failed = error
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            if failed is not None:
                raise failed
            turn = await playing.asend(line.strip())
            say(text=await turn)
        except (Exception, asyncio.CancelledError) as error:
            say(error=f"{type(error).__name__}: {error}"[:160])
    await playing.aclose()
    os._exit(0)

asyncio.run(main())
"""
_NODE_MAIN = """
import readline from "node:readline";
const say = (what) => console.log("@@" + JSON.stringify(what));
const told = (error) => say({ error: `${error?.name}: ${error?.message ?? error}`.slice(0, 160) });
process.on("uncaughtException", (error) => { console.error(error); });
process.on("unhandledRejection", (error) => { console.error(error); });
const connected = connect(process.argv[2]);
for await (const line of readline.createInterface({ input: process.stdin })) {
  try { say({ text: await (await connected)(line) }); } catch (error) { told(error); }
}
process.exit(0);
"""
