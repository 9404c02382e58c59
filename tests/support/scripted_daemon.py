"""A daemon that answers one request after the other as it was told, whatever was asked.

Whoever looks for approvals meanwhile finds none.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    """A status line's end and a body; ``is_cut``: it hangs up before the end."""

    status: str
    body: str
    is_cut: bool = False


class ScriptedDaemon:
    """Listens at ``path``; ``asked`` are the requests' first lines."""

    def __init__(self, directory: Path, answers: Sequence[Answer]) -> None:
        self.path = str(directory / "s")
        self.asked: list[str] = []
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        answers = iter(self._answers)
        with self._listener:
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    line = connection.recv(65536).decode().partition(" HTTP")[0]
                    if line.startswith("GET /v1/approvals"):
                        answer: Answer | None = NO_APPROVALS
                    else:
                        self.asked.append(line)
                        answer = next(answers, None)
                    if answer is None:
                        return
                    length = len(answer.body) + answer.is_cut
                    head = f"HTTP/1.1 {answer.status}\r\nContent-Length: {length}\r\n\r\n"
                    connection.sendall((head + answer.body).encode())


NO_APPROVALS = Answer("200 OK", '{"approvals": []}')
