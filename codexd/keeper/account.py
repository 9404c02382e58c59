"""Whether the child is logged in, as it says itself: asked once, and again when that changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from codexd.encoding import UNDECODABLE, decode_json
from codexd.link.errors import LinkError, RequestFailed

# Asks the child: method, params, how many seconds the answer may take.
Ask = Callable[[str, Any, float], Awaitable[bytes]]

_TIMEOUT_S = 10.0
_CHANGED = (b'"account/updated"', b'"account/login/completed"')
# JSON-RPC's words for a question that a child does not know: asked again, it says the same.
_UNKNOWN = (-32601, -32600)
# A method stands at the beginning of a message; what follows may be long.
_HEAD_BYTES = 64


class _Kind(msgspec.Struct):
    type: str = "unknown"


class _Answer(msgspec.Struct, rename="camel"):
    requires_openai_auth: bool
    account: _Kind | None = None


class Account:
    """What is known of the account; of a person's data nothing is kept.

    ``spawn(coroutine)`` runs one beside everything else.
    """

    def __init__(self, ask: Ask, spawn: Callable[[Any], None]) -> None:
        self._ask = ask
        self._spawn = spawn
        self._answer: _Answer | None = None
        # A child that does not know the question is not asked again.
        self._is_settled = True
        self._is_asking = False

    def status(self) -> dict[str, Any] | None:
        """What a status shows; None while it is not known."""
        answer = self._answer
        if answer is None:
            return None
        return {
            "loggedIn": answer.account is not None,
            "required": answer.requires_openai_auth,
            "type": None if answer.account is None else answer.account.type,
        }

    def child_ready(self) -> None:
        """A child became ready: ask it."""
        self._answer = None
        self._is_settled = False
        self.tick()

    def heard(self, message: bytes) -> None:
        """What the child says of the account; it may be that it changed."""
        head = message[:_HEAD_BYTES]
        if any(changed in head for changed in _CHANGED):
            self._is_settled = False
            self.tick()

    def tick(self) -> None:
        """Ask again where no answer came; call it now and then while the child is ready."""
        if not self._is_settled and not self._is_asking:
            self._is_asking = True
            self._spawn(self._read())

    async def _read(self) -> None:
        try:
            while not self._is_settled:
                # What changes while the answer is under way is asked for once more.
                self._is_settled = True
                self._answer = await self._question()
        except LinkError:
            # It may have changed, and nobody says how it stands now.
            self._answer = None
            self._is_settled = False
        finally:
            self._is_asking = False

    async def _question(self) -> _Answer | None:
        try:
            answer = await self._ask("account/read", {}, _TIMEOUT_S)
            return decode_json(answer, _Answer)
        except RequestFailed as error:
            if error.code not in _UNKNOWN:
                raise
            return None
        except UNDECODABLE:
            return None
