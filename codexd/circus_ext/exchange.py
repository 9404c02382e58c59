"""The clients' side: one hub, one server on codexd.sock, joined to the child."""

from __future__ import annotations

from collections.abc import Callable

from codexd.circus_ext.memory import Memory
from codexd.config import Config


class Exchange:
    def __init__(self, config: Config, memory: Memory) -> None:
        self._config = config
        self._memory = memory

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    def tick(self) -> None:
        return

    def child_ready(
        self, send: Callable[[bytes], None], initialize_result: bytes, *, same_child: bool
    ) -> None:
        return

    def child_message(self, data: bytes) -> None:
        return

    def child_lost(self, reason: str) -> None:
        return
