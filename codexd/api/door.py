"""The door of the TCP listener: who may come in, and who has to leave.

Until somebody has shown a token, it is a stranger: of those there are a few for each address and
some for all, and the oldest makes room for the newest. So they never use up what those need who are
here already, and cannot keep anybody out by just standing there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, Protocol

from websockets.frames import CloseCode

from codexd.address import parse_ip
from codexd.api.hosts import Hosts
from codexd.api.http import Access, Head, Problem
from codexd.api.page_access import KEY_HEADER, PageAccess
from codexd.api.penalties import Penalties
from codexd.api.table import Result, unauthorized
from codexd.api.tokens import Tokens
from codexd.platform.limits import files_left_above

# asyncio takes 256 KiB for each that speaks TLS.
_STRANGERS: Final = 128
_STRANGERS_OF_ONE: Final = 32
_STRANGERS_BODY: Final = 4096
# What a home or a phone has to itself: one customer's part of IPv6.
_NETWORK_BITS: Final = 64


_NOT_VALID: Final = "the token is not valid any more"


class Service(Protocol):
    """Who answers those who are in."""

    def find(self, head: Head, access: Access) -> Callable[[bytes], Awaitable[Result]]: ...


class Closable(Protocol):
    """A connection. ``is_silent``: nothing is on its way, neither here nor there."""

    @property
    def descriptor(self) -> int: ...
    @property
    def is_silent(self) -> bool: ...
    def close(self, code: int, reason: str) -> None: ...
    def abort(self) -> None: ...


class Visit:
    """One connection at the door; an :class:`.connection.Visitor`. ``address`` is its peer's."""

    def __init__(self, door: Door, address: str) -> None:
        self._door = door
        self.address = address
        self.connection: Closable | None = None
        # Of the token by which it came in.
        self.digest: bytes | None = None

    def comes(self, connection: Closable) -> None:
        """Somebody has connected."""
        self.connection = connection
        self._door.comes(self)

    def may_stay(self, connected: object) -> bool:
        """Whoever it is: what it may do is decided by the token of its request."""
        del connected
        return True

    def left(self) -> None:
        """It is gone."""
        self._door.left(self)

    def admit(self, head: Head) -> Access:
        """What it may do by the token that it sends."""
        return self._door.admit(self, head)

    def find(self, head: Head, access: Access) -> Callable[[bytes], Awaitable[Result]]:
        """What answers it; who has no token is not even told what there is."""
        return self._door.find(head, access)


class Door:
    """Looks at everybody's token, or what ``page`` knows a browser by.

    ``on_wrong(address)`` is told of each token that is wrong.
    """

    def __init__(
        self,
        service: Service,
        tokens: Tokens,
        hosts: Hosts,
        page: PageAccess,
        on_wrong: Callable[[str], None],
    ) -> None:
        self._service = service
        self._tokens = tokens
        self._hosts = hosts
        self._page = page
        self._on_wrong = on_wrong
        self._penalties = Penalties()
        self._visits: set[Visit] = set()
        # In the order in which they came.
        self._strangers: dict[Visit, None] = {}
        # With few open files, strangers get a part of them.
        self._most = min(_STRANGERS, max(1, files_left_above(-1) // 4))

    def visit(self, address: str) -> Visit:
        """For a connection from an IP address."""
        return Visit(self, _whose(address))

    def look(self) -> int:
        """Send those away whose token is no longer valid; how many. Call it some times a second."""
        if not self._tokens.look():
            return 0
        cut = [
            visit
            for visit in self._visits
            if visit.digest is not None and not self._tokens.holds(visit.digest)
        ]
        for visit in cut:
            if visit.connection is not None:
                visit.connection.close(CloseCode.POLICY_VIOLATION, _NOT_VALID)
        return len(cut)

    def make_room(self, may_go: Callable[[Closable], bool]) -> bool:
        """End the connection of the oldest stranger that may go; whether there was one."""
        for visit in self._strangers:
            if visit.connection is not None and may_go(visit.connection):
                self._turn_away(visit)
                return True
        return False

    # -- for the visits ------------------------------------------------------------------------

    def comes(self, visit: Visit) -> None:
        """A stranger."""
        self._visits.add(visit)
        self._strangers[visit] = None
        neighbours = [other for other in self._strangers if other.address == visit.address]
        if len(neighbours) > _STRANGERS_OF_ONE:
            self._turn_away(neighbours[0])
        elif len(self._strangers) > self._most:
            self._turn_away(next(iter(self._strangers)))

    def left(self, visit: Visit) -> None:
        """It is gone."""
        self._visits.discard(visit)
        self._strangers.pop(visit, None)

    def admit(self, visit: Visit, head: Head) -> Access:
        """What a request may do.

        Raises:
            Problem: it may not even ask: a foreign page or name, or a wrong token.
        """
        self._hosts.check(head)
        token = _bearer(head)
        if token is None:
            return self._admit_page(visit, head)
        # A token that was just changed is in force at once.
        self.look()
        access, digest = self._tokens.access(token)
        if access is Access.OPEN:
            raise self._wrong(visit)
        self._is_in(visit, digest)
        return access

    def _admit_page(self, visit: Visit, head: Head) -> Access:
        """What may do who sends no token: the page in a browser, all; anybody else, nothing."""
        if KEY_HEADER not in head.headers:
            return Access.OPEN
        self.look()
        digest = self._tokens.digest
        if digest is None or not self._page.admit(head, digest):
            return Access.OPEN
        # It has to leave with those who have the token.
        self._is_in(visit, digest)
        return Access.ADMIN

    def _is_in(self, visit: Visit, digest: bytes) -> None:
        visit.digest = digest
        self._strangers.pop(visit, None)

    def find(self, head: Head, access: Access) -> Callable[[bytes], Awaitable[Result]]:
        """See :meth:`Visit.find`."""
        if access is Access.OPEN and _may_be_long(head):
            raise unauthorized()
        try:
            return self._service.find(head, access)
        except Problem as problem:
            if access is Access.OPEN and problem.status in _TELLING:
                raise unauthorized() from None
            raise

    def _wrong(self, visit: Visit) -> Problem:
        self._on_wrong(visit.address)
        now = asyncio.get_running_loop().time()
        problem = unauthorized(is_wrong=True)
        if self._tokens.fault is not None:
            text = "A token file cannot be used; `codexd status`, on the machine, says more."
            problem = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "no-token", text)
        # Who has the right one is never held up, also where many share an address.
        problem.delay_s = self._penalties.wrong(visit.address, now)
        return problem

    def _turn_away(self, visit: Visit) -> None:
        self._strangers.pop(visit, None)
        if visit.connection is not None:
            visit.connection.abort()


# Which paths and methods there are.
_TELLING: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


def _may_be_long(head: Head) -> bool:
    """Whether the body is more than a stranger may send."""
    length = head.headers.get("content-length", "0")
    return "transfer-encoding" in head.headers or not (
        length.isdecimal() and int(length[:9]) <= _STRANGERS_BODY and len(length) < 9
    )


def _bearer(head: Head) -> bytes | None:
    """The token that was sent, right or wrong; None where none was."""
    sent = head.headers.get("authorization")
    if sent is None:
        return None
    scheme, _, token = sent.strip().partition(" ")
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def _whose(address: str) -> str:
    """The address as the table of wrong tokens knows it."""
    ip = parse_ip(address.partition("%")[0])
    if ip is None or ip.version == 4:
        return str(ip or address)
    return f"{ip.packed[: _NETWORK_BITS // 8].hex(':', 2)}::/{_NETWORK_BITS}"
