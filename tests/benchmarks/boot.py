"""A codex on pipes, booted by nobody: the floor of every restart."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.codex import codex_path
from tests.support.model import ModelServer

INITIALIZE: Final = {"clientInfo": {"name": "bench", "title": None, "version": "0"}}


class Codex:
    """A codex on pipes, asked one thing after the other."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._asked = 0

    def send(self, message: dict[str, Any]) -> None:
        """One message."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result."""
        self._asked += 1
        self.send({"id": self._asked, "method": method, "params": params})
        answer = self.wait(lambda message: message.get("id") == self._asked)
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message that is the one."""
        assert self._process.stdout is not None
        while True:
            message: dict[str, Any] = json.loads(self._process.stdout.readline())
            if is_it(message):
                return message


@contextlib.contextmanager
def bare_codex(env: dict[str, str], cwd: Path) -> Iterator[Codex]:
    """A codex that is killed at the end of the block."""
    with subprocess.Popen(
        [codex_path(), "app-server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        cwd=cwd,
    ) as process:
        try:
            yield Codex(process)
        finally:
            process.kill()


class BareBoot:
    """Boots codex in a CODEX_HOME of its own."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root = root
        self.home = root / "home"
        self.home.mkdir(mode=0o700)
        self.env = {**env, "CODEX_HOME": str(self.home)}
        self.thread_id = ""

    def seconds(self) -> float:
        """From spawning codex to its answer."""
        begun = time.perf_counter()
        with bare_codex(self.env, self.root) as codex:
            codex.ask("initialize", INITIALIZE)
            return time.perf_counter() - begun

    def make_thread(self, model: ModelServer) -> None:
        """Have a thread in this home, which has had a turn."""
        model.write_config(self.home)
        with bare_codex(self.env, self.root) as codex:
            codex.ask("initialize", INITIALIZE)
            codex.send({"method": "initialized"})
            self.thread_id = codex.ask("thread/start", {})["thread"]["id"]
            text = [{"type": "text", "text": "hi"}]
            codex.ask("turn/start", {"threadId": self.thread_id, "input": text})
            codex.wait(lambda message: message.get("method") == "turn/completed")

    def seconds_to_resume(self) -> float:
        """From spawning codex until it has resumed that thread."""
        begun = time.perf_counter()
        with bare_codex(self.env, self.root) as codex:
            codex.ask("initialize", INITIALIZE)
            codex.send({"method": "initialized"})
            codex.ask("thread/resume", {"threadId": self.thread_id})
            return time.perf_counter() - begun
