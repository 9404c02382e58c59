from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from codexd.keeper.account import Account
from codexd.link.errors import LinkTimeout, RequestFailed

LOGGED_OUT = b'{"account":null,"requiresOpenaiAuth":true,"workspaceRouting":null}'
CHATGPT = (
    b'{"account":{"type":"chatgpt","email":"someone@example.org","planType":"pro"},'
    b'"requiresOpenaiAuth":true}'
)
COMPLETED = b'{"method":"account/login/completed","params":{"loginId":null,"success":true}}'
UPDATED = b'{"method":"account/updated","params":{"authMode":"apikey"}}'


class Child:
    """Gives one answer after the other; an exception is raised."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.account = Account(self.ask, self.spawn)

    async def ask(self, method: str, params: Any, timeout_s: float) -> bytes:
        assert (method, params) == ("account/read", {})
        assert timeout_s > 0
        self.asked += 1
        answer = self.answers.pop(0)
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine))

    async def settle(self) -> dict[str, Any] | None:
        while self.tasks:
            await self.tasks.pop()
        return self.account.status()


def test_it_is_asked_once_and_again_when_it_changed() -> None:
    async def main() -> None:
        child = Child(LOGGED_OUT, CHATGPT)
        assert child.account.status() is None
        child.account.child_ready()
        assert await child.settle() == {"loggedIn": False, "required": True, "type": None}
        child.account.tick()
        child.account.heard(b'{"method":"account/rateLimits/updated","params":{}}')
        child.account.heard(b'{"id":1,"result":{"x":"' + b"y" * 80 + b'"account/updated"}}')
        await child.settle()
        assert child.asked == 1
        child.account.heard(UPDATED)
        status = await child.settle()
        # Of the person nothing is told.
        assert status == {"loggedIn": True, "required": True, "type": "chatgpt"}

    asyncio.run(main())


def test_a_change_while_the_answer_is_under_way_is_not_missed() -> None:
    async def main() -> None:
        child = Child(LOGGED_OUT, CHATGPT)
        child.account.child_ready()
        await asyncio.sleep(0)
        child.account.heard(UPDATED)
        assert (await child.settle() or {})["loggedIn"] is True

    asyncio.run(main())


def test_no_answer_is_asked_for_again_and_an_error_is_not() -> None:
    async def main() -> None:
        child = Child(LinkTimeout("late"), LOGGED_OUT)
        child.account.child_ready()
        assert await child.settle() is None
        child.account.tick()
        assert (await child.settle() or {})["loggedIn"] is False

        for odd in (RequestFailed("account/read", -32601, "unknown"), b"[]", b"{}", b"\xff"):
            older = Child(odd)
            older.account.child_ready()
            assert await older.settle() is None
            older.account.tick()
            assert await older.settle() is None
            assert older.asked == 1

    asyncio.run(main())


def test_what_may_pass_is_asked_again_and_till_then_nothing_is_known() -> None:
    async def main() -> None:
        child = Child(LOGGED_OUT, RequestFailed("account/read", -32603, "full"), CHATGPT)
        child.account.child_ready()
        assert (await child.settle() or {})["loggedIn"] is False
        child.account.heard(COMPLETED)
        # No longer logged out, as far as is known.
        assert await child.settle() is None
        child.account.tick()
        assert (await child.settle() or {})["loggedIn"] is True

    asyncio.run(main())


def test_another_child_is_asked_anew() -> None:
    async def main() -> None:
        child = Child(CHATGPT, b'{"requiresOpenaiAuth":false}')
        child.account.child_ready()
        await child.settle()
        child.account.child_ready()
        assert child.account.status() is None
        assert await child.settle() == {"loggedIn": False, "required": False, "type": None}

    asyncio.run(main())
