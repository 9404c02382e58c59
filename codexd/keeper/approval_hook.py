"""The user's command for approvals: it tells somebody, and may decide.

It runs for each request, with ids and kind in its environment and the details on its stdin, as
JSON. It decides nothing unless its output says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from codexd.encoding import encode_json
from codexd.hub.approvals import (
    ACCEPT,
    DECLINE,
    AlreadyDecided,
    BadDecision,
    UnknownApproval,
    WaitingApproval,
)
from codexd.shapes import Decision

logger = logging.getLogger("codexd")

# Never more at once; the others wait for their turn.
_AT_ONCE: Final = 4
_WAITING: Final = 1000
# Of what it says, as much is looked at.
_OUTPUT_BYTES: Final = 4096

Record = Callable[[Any, str, str, dict[str, Any]], None]


class Approvals(Protocol):
    """Who knows the requests."""

    def approval(self, approval_id: str) -> WaitingApproval: ...
    def decide(self, approval_id: str, decision: Decision) -> None: ...
    def session_of(self, thread_id: str) -> str | None: ...


class ApprovalHook:
    """``command`` is for the shell; empty for none. It has ``timeout_s`` seconds."""

    def __init__(
        self,
        command: str,
        timeout_s: float,
        environ: Mapping[str, str],
        approvals: Approvals,
        record: Record,
    ) -> None:
        self._command = command
        self._timeout_s = timeout_s
        self._environ = environ
        self._approvals = approvals
        self._record = record
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def requested(self, approval_id: str) -> None:
        """The server asks for something."""
        if not self._command:
            return
        if len(self._tasks) >= _WAITING:
            self._failed(approval_id, f"{_WAITING} others are before it")
            return
        # Whoever asked is told of it first.
        task = asyncio.get_running_loop().create_task(self._see_to(approval_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End those that run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _see_to(self, approval_id: str) -> None:
        try:
            async with self._free:
                waiting = self._approvals.approval(approval_id)
                said = await self._run(waiting)
                if said in (ACCEPT, DECLINE):
                    self._approvals.decide(approval_id, said)
        except (AlreadyDecided, UnknownApproval):
            # Somebody was quicker.
            return
        except BadDecision as error:
            self._failed(approval_id, str(error))
        except _HookError as error:
            self._failed(approval_id, str(error))
        except Exception:
            logger.exception("the approval command could not be seen to")
            self._failed(approval_id, "codexd.log says why")

    async def _run(self, waiting: WaitingApproval) -> str:
        """What the command says, where that is a single word.

        What begins with such a word decides nothing: it may be the agent's own text, shown.

        Raises:
            _HookError: it did not end well, or not in time.
        """
        try:
            process = await self._start(waiting)
        except OSError as error:
            raise _HookError(f"it could not be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                output = await self._talk(process, self._details(waiting))
                code = await process.wait()
        except TimeoutError:
            text = f"it was not done after {self._timeout_s:g} s, and was ended"
            raise _HookError(text) from None
        finally:
            await _end(process)
        if code != 0:
            how = f"code {code}" if code > 0 else f"signal {-code}"
            raise _HookError(f"it ended with {how}")
        words = output.decode("utf-8", "replace").split()
        return words[0] if len(words) == 1 else ""

    async def _start(self, waiting: WaitingApproval) -> asyncio.subprocess.Process:
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_shell(
                self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={**self._environ, **self._about(waiting)},
                start_new_session=True,
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # asyncio would end the shell alone, and then wait for what that has started.
            with contextlib.suppress(OSError):
                await _end(await starting)
            raise

    @staticmethod
    async def _talk(process: asyncio.subprocess.Process, details: bytes) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None

        async def tell() -> None:
            assert process.stdin is not None
            # It need not read them.
            with contextlib.suppress(ConnectionError):
                process.stdin.write(details)
                await process.stdin.drain()
            process.stdin.close()

        async def hear() -> bytes:
            assert process.stdout is not None
            heard = b""
            while piece := await process.stdout.read(_OUTPUT_BYTES):
                heard = (heard + piece)[:_OUTPUT_BYTES]
            return heard

        _, heard = await asyncio.gather(tell(), hear())
        return heard

    def _about(self, waiting: WaitingApproval) -> dict[str, str]:
        session = self._session_of(waiting)
        return {
            "CODEXD_APPROVAL_ID": waiting.approval_id,
            "CODEXD_APPROVAL_KIND": waiting.kind,
            "CODEXD_THREAD_ID": waiting.thread_id or "",
            "CODEXD_TURN_ID": waiting.turn_id or "",
            "CODEXD_SESSION_ID": session or "",
        }

    def _details(self, waiting: WaitingApproval) -> bytes:
        return encode_json(
            {
                "approvalId": waiting.approval_id,
                "kind": waiting.kind,
                "threadId": waiting.thread_id,
                "sessionId": self._session_of(waiting),
                "turnId": waiting.turn_id,
                "since": waiting.since,
                "summary": waiting.summary,
                "decisions": list(waiting.decisions),
            }
        )

    def _session_of(self, waiting: WaitingApproval) -> str | None:
        thread_id = waiting.thread_id
        return None if thread_id is None else self._approvals.session_of(thread_id)

    def _failed(self, approval_id: str, why: str) -> None:
        message = f"The approval command failed: {why}."
        with contextlib.suppress(AlreadyDecided, UnknownApproval):
            self._approvals.approval(approval_id)
            message += " The approval still waits."
        detail = {"approvalId": approval_id, "reason": why}
        self._record("warn", "approval.command.failed", message, detail)


async def _end(process: asyncio.subprocess.Process) -> None:
    """What it has started goes with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


class _HookError(Exception):
    """The command did not do what it should; the text says how."""
