"""A client over the stdin and stdout of a command, as tools start `codex app-server`."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.client import AppClient


class AttachClient(AppClient):
    """Speaks with ``command``, started in ``cwd``; end it with :meth:`close`."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path, name: str = "tool"
    ) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd=cwd
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.seen: list[dict[str, Any]] = []
        self._taken = 0
        self._count = 0
        self.initialized = self.initialize(name)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def send(self, message: dict[str, Any]) -> None:
        """Write one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self, timeout_s: float = 20) -> dict[str, Any]:
        """The next message, kept in ``seen``."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"nothing came; seen: {self.seen[-3:]}") from None
        assert line, "the command has ended"
        message: dict[str, Any] = json.loads(line)
        self.seen.append(message)
        return message

    def close(self) -> None:
        """End the command, whatever happened."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join(5)
