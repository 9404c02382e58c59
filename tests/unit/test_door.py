"""Whatever a stranger sends, it gets no further than the door."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codexd.address import parse_address
from codexd.api import door as module
from codexd.api.door import Door, Visit
from codexd.api.health import HealthRoutes
from codexd.api.hosts import Hosts
from codexd.api.http import Access, Head, Problem
from codexd.api.page import PageRoutes
from codexd.api.page_access import PageAccess
from codexd.api.service import Service
from codexd.api.status import StatusRoutes
from codexd.api.table import Table
from codexd.api.tokens import Tokens
from codexd.store import token_file


class Connection:
    descriptor, is_silent = 7, True

    def __init__(self) -> None:
        self.closed: list[int] = []
        self.aborted = False

    def close(self, code: int, reason: str) -> None:
        assert reason
        self.closed.append(code)

    def abort(self) -> None:
        self.aborted = True


class Room:
    def __init__(self, place: Path) -> None:
        self.path = str(place / "token")
        token_file.make(self.path)
        self.token = token_file.read(self.path).decode()
        self.tokens = Tokens(self.path, None, on_fault=lambda *_: None, on_change=lambda *_: None)
        self.page = PageAccess(str(place / "page-sessions.json"))
        self.page.serve(lambda: "http://127.0.0.1:1/", lambda: self.tokens.digest)
        table = Table([HealthRoutes(lambda: True), StatusRoutes(dict), PageRoutes(self.page)])
        hosts = Hosts(parse_address("127.0.0.1:0"), "127.0.0.1", is_tls=False, certified=lambda: ())
        self.wrong: list[str] = []
        self.told = ""
        self.door = Door(Service(table), self.tokens, hosts, self.page, self.wrong.append)

    def come(self, address: str = "10.0.0.1") -> tuple[Visit, Connection]:
        visit, connection = self.door.visit(address), Connection()
        visit.comes(connection)
        return visit, connection

    def ask(self, visit: Visit, head: Head) -> tuple[int, float]:
        """The status that is told at the door (200: it is let through), and how late."""

        async def main() -> tuple[int, float]:
            try:
                visit.find(head, visit.admit(head))
            except Problem as problem:
                self.told = problem.detail
                return problem.status.value, problem.delay_s
            return 200, 0.0

        return asyncio.run(main())


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def bearer(token: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", **more}


WORDS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=60)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "authorization",
            "host",
            "origin",
            "cookie",
            "codexd-page",
            "content-length",
            "upgrade",
        ]
    ),
    st.one_of(
        WORDS,
        WORDS.map(lambda text: f"Bearer {text}"),
        st.sampled_from(["Bearer", "bearer  ", "localhost", "null", "-1", "1e3", "²", "9" * 30]),
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["GET", "HEAD", "POST", "DELETE", "get", ""]),
    st.one_of(
        WORDS,
        st.sampled_from(
            ["/", "/v1/page/codes", "/v1/status", "/healthz", "/readyz?x", "//", "*", "/v1/x"]
        ),
    ),
    HEADERS,
)
def test_no_request_of_a_strangers_is_let_through_but_the_open_ones(
    room: Room, method: str, target: str, headers: dict[str, str]
) -> None:
    visit, _ = room.come()
    status, _ = room.ask(visit, Head(method, target, headers))
    visit.left()
    if status == 200:
        assert target.partition("?")[0] in ("/healthz", "/readyz", "/")
        assert "authorization" not in headers
    else:
        # 400: what an open route does not understand of a query.
        assert status in (401, 403) or (status == 400 and "?" in target)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("Bearer {}", 200),
        ("bearer {}", 200),
        ("BEARER   {} ", 200),
        ("Bearer {}x", 401),
        ("Bearer {}, Bearer {}", 401),
        ("Basic {}", 401),
        ("{}", 401),
        ("Bearer", 401),
        ("", 401),
    ],
)
def test_how_a_token_is_sent(room: Room, sent: str, status: int) -> None:
    visit, _ = room.come()
    headers = {"authorization": sent.replace("{}", room.token)}
    assert room.ask(visit, Head("GET", "/v1/status", headers))[0] == status
    assert len(room.wrong) == (status != 200)
    # Another trouble than none at all.
    assert ("not valid" in room.told) == (status != 200)


@pytest.mark.parametrize(
    ("headers", "may"),
    [
        ({}, True),
        ({"content-length": "0"}, True),
        ({"content-length": "4096"}, True),
        ({"content-length": "4097"}, False),
        ({"content-length": "1" + "0" * 30}, False),
        ({"content-length": "10, 10"}, False),
        ({"transfer-encoding": "chunked"}, False),
    ],
)
def test_a_stranger_sends_no_long_body(room: Room, headers: dict[str, str], may: bool) -> None:
    visit, _ = room.come()
    assert room.ask(visit, Head("GET", "/healthz", headers))[0] == (200 if may else 401)
    assert room.ask(visit, Head("GET", "/healthz", bearer(room.token, **headers)))[0] == 200


def test_each_address_waits_for_its_own_mistakes(room: Room) -> None:
    def late(address: str) -> float:
        visit, _ = room.come(address)
        wrong = Head("GET", "/v1/status", bearer("wrong" * 5))
        return room.ask(visit, wrong)[1]

    assert [late("10.0.0.1"), late("10.0.0.1"), late("10.0.0.2")] == [0.25, 0.5, 0.25]
    # One IPv4 address, however it is written; and a customer's whole part of IPv6.
    assert late("::ffff:10.0.0.2") == 0.5
    assert [late("2001:db8:0:1::1"), late("2001:db8:0:1:ffff::2"), late("2001:db8:0:2::1")] == [
        0.25,
        0.5,
        0.25,
    ]
    right, _ = room.come("10.0.0.1")
    assert room.ask(right, Head("GET", "/v1/status", bearer(room.token))) == (200, 0.0)


def test_the_oldest_stranger_makes_room(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STRANGERS_OF_ONE", 2)
    known, stays = room.come()
    assert room.ask(known, Head("GET", "/v1/status", bearer(room.token)))[0] == 200
    comers = [room.come("10.0.0.2")[1]] + [room.come()[1] for _ in range(3)]
    assert [connection.aborted for connection in comers] == [False, True, False, False]
    assert not room.door.make_room(lambda _: False)
    assert room.door.make_room(lambda found: found is not comers[0])
    assert [connection.aborted for connection in comers] == [False, True, True, False]
    assert room.door.make_room(lambda _: True)
    assert room.door.make_room(lambda _: True)
    assert not room.door.make_room(lambda _: True)
    assert not stays.aborted


def test_strangers_of_many_addresses_are_few_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STRANGERS", 3)
    room = Room(tmp_path)
    known, stays = room.come()
    assert room.ask(known, Head("GET", "/v1/status", bearer(room.token)))[0] == 200
    came = [room.come(f"10.0.1.{number}") for number in range(5)]
    assert [connection.aborted for _, connection in came] == [True, True, False, False, False]
    assert not stays.aborted
    for visit, _ in [*came, (known, stays)]:
        visit.left()
    # Who is gone is no stranger any more, and nobody who would have to leave with a token.
    assert [room.come(f"10.0.2.{number}")[1].aborted for number in range(3)] == [False] * 3
    token_file.rotate(room.path)
    assert room.door.look() == 0


def test_a_new_token_cuts_by_the_token_that_let_in(room: Room) -> None:
    (old, one), (never, other) = room.come(), room.come()
    assert room.ask(old, Head("GET", "/v1/status", bearer(room.token)))[0] == 200
    assert room.door.look() == 0
    token_file.rotate(room.path)
    assert room.door.look() == 1
    assert (one.closed, other.closed) == ([1008], [])
    old.left()
    never.left()
    # A request by the new one is let in by it, and stays.
    new, third = room.come()
    token = token_file.read(room.path).decode()
    assert room.ask(new, Head("GET", "/v1/status", bearer(token)))[0] == 200
    assert room.door.look() == 0
    assert third.closed == []


def test_a_browser_is_let_in_by_its_session_until_the_token_is_another(room: Room) -> None:
    known = room.page.open(room.page.new_code()[0])
    assert known is not None
    headers = {
        "host": "127.0.0.1:7",
        "cookie": f"codexd_page_7={known.cookie}",
        "codexd-page": known.key,
    }
    visit, connection = room.come()
    head = Head("GET", "/v1/status", headers)
    assert room.ask(visit, head) == (200, 0.0)
    assert visit.admit(head) is Access.ADMIN
    # It is no stranger any more.
    assert not room.door.make_room(lambda _: True)
    foreign = Head("GET", "/v1/status", {**headers, "origin": "http://127.0.0.1:8"})
    assert room.ask(visit, foreign)[0] == 403
    # It may all that the token may, and no more.
    for more in (headers, bearer(room.token)):
        own = {**more, "origin": "http://127.0.0.1:7", "host": "127.0.0.1:7"}
        assert room.ask(visit, Head("POST", "/v1/page/codes", own))[0] == 403
    assert room.ask(visit, Head("POST", "/v1/page/codes", {}))[0] == 401
    token_file.rotate(room.path)
    assert room.ask(visit, head)[0] == 401
    assert connection.closed == [1008]
    assert room.page.open(room.page.new_code()[0]) is not None
    # An old session is no attack.
    assert room.wrong == []


def test_a_browser_waits_while_there_is_no_token(room: Room) -> None:
    known = room.page.open(room.page.new_code()[0])
    assert known is not None
    secrets = {"cookie": f"codexd_page={known.cookie}", "codexd-page": known.key}
    head = Head("GET", "/v1/status", {"host": "localhost", **secrets})
    visit, _ = room.come()
    assert room.ask(visit, head)[0] == 200
    Path(room.path).chmod(0o644)
    assert room.ask(visit, head)[0] == 401
    Path(room.path).chmod(0o600)
    assert room.ask(visit, head)[0] == 200
