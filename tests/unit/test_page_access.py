"""Who is let in as a browser, by what, and until when."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from codexd.api.http import Head, Problem
from codexd.api.page_access import (
    CODE_S,
    IDLE_S,
    PageAccess,
    Secrets,
    check_own_page,
    set_cookie,
)

TOKEN, OTHER = b"t" * 32, b"o" * 32
HOST = "127.0.0.1:8765"
OWN = {"origin": f"http://{HOST}"}


class Room:
    """A page's access with a clock that is set by hand; ``again`` is what comes after it."""

    def __init__(self, place: Path) -> None:
        self.path = place / "page-sessions.json"
        self.time = 1_000_000.0
        self.token: bytes | None = TOKEN
        self.again()

    def again(self) -> None:
        self.access = PageAccess(str(self.path), lambda: self.time)
        self.access.serve(lambda: f"http://{HOST}/", lambda: self.token)

    def code(self) -> str:
        return self.access.new_code()[0]

    def enter(self) -> Secrets:
        made = self.access.open(self.code())
        assert made is not None
        return made

    def admits(self, known: Secrets, token: bytes = TOKEN) -> bool:
        return self.access.admit(request(known), token)


def request(known: Secrets, method: str = "GET", host: str = HOST, **headers: str) -> Head:
    port = host.rpartition(":")[2]
    sent = {
        "host": host,
        "cookie": f"other=1; codexd_page_{port}={known.cookie}",
        "codexd-page": known.key,
    }
    return Head(method, "/v1/status", {**sent, **headers})


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


# -- codes ----------------------------------------------------------------------------------------


def test_a_code_lets_one_in_once_and_within_a_minute(room: Room) -> None:
    code, url = room.access.new_code()
    assert url == f"http://{HOST}/"
    assert room.access.open("x" + code) is None
    room.time += CODE_S - 1
    assert room.access.open(code) is not None
    assert room.access.open(code) is None
    late = room.code()
    room.time += CODE_S
    assert room.access.open(late) is None
    # A clock that is set back makes none live longer.
    early = room.code()
    room.time -= 5
    assert room.access.open(early) is None


def test_codes_are_long_and_few(room: Room) -> None:
    codes = [room.code() for _ in range(20)]
    assert len(set(codes)) == 20
    assert min(map(len, codes)) >= 43
    assert [room.access.open(code) is not None for code in codes] == [False] * 12 + [True] * 8


def test_without_a_listener_or_a_token_nobody_is_let_in(room: Room, tmp_path: Path) -> None:
    with pytest.raises(Problem) as caught:
        PageAccess(str(tmp_path / "x")).new_code()
    assert caught.value.kind == "no-listener"
    assert "--hub-listen 127.0.0.1:0" in caught.value.detail
    code, room.token = room.code(), None
    assert room.access.open(code) is None
    assert PageAccess(str(tmp_path / "x")).open("") is None


# -- sessions -------------------------------------------------------------------------------------


def test_cookie_and_key_are_needed_both(room: Room) -> None:
    one, two = room.enter(), room.enter()
    assert room.admits(one)
    assert room.admits(two)
    for known in (
        Secrets(one.cookie, two.key),
        Secrets(one.cookie, one.cookie),
        Secrets(one.key, one.cookie),
        Secrets(one.cookie, ""),
        Secrets("", one.key),
        Secrets("", ""),
        Secrets(one.cookie + "x", one.key),
        Secrets("é", "é"),
        Secrets('"', '"'),
    ):
        assert not room.admits(known)
    # The cookie of another port's daemon stands beside ours.
    other = request(one, host="127.0.0.1:9")
    assert room.access.admit(other, TOKEN)
    assert not room.access.admit(Head("GET", "/", {**other.headers, "host": HOST}), TOKEN)


def test_cookies_of_other_ports_are_passed_over(room: Room) -> None:
    known = room.enter()
    for before in ("codexd_page_8765=theirs", 'a={"x": 1}', "b", "=", 'c="', "codexd_page=x", ""):
        headers = request(known).headers
        cookie = f"{before}; codexd_page_8765={known.cookie};d"
        assert room.access.admit(Head("GET", "/", {**headers, "cookie": cookie}), TOKEN), before


def test_its_use_is_written_down_from_time_to_time(room: Room) -> None:
    known = room.enter()
    written = []
    for _ in range(30):
        room.time += 60
        assert room.admits(known)
        at = json.loads(room.path.read_text())["sessions"][0]["usedAt"]
        assert room.time - at < 300
        written.append(at)
    assert len(set(written)) == 7


def test_a_session_ends_when_it_is_not_used(room: Room) -> None:
    known = room.enter()
    assert IDLE_S == 12 * 60 * 60
    for _ in range(3):
        room.time += IDLE_S - 1
        assert room.admits(known)
    room.time += IDLE_S + 1
    assert not room.admits(known)
    room.time -= 2 * IDLE_S
    assert not room.admits(known)


def test_of_many_the_one_that_was_not_used_makes_room(room: Room) -> None:
    many = []
    for _ in range(16):
        many.append(room.enter())
        room.time += 1
    assert room.admits(many[0])
    room.time += 1
    newest = room.enter()
    assert [room.admits(known) for known in many] == [True, False] + [True] * 14
    assert room.admits(newest)


def test_another_token_ends_every_session(room: Room) -> None:
    known = room.enter()
    assert not room.admits(known, OTHER)
    room.again()
    assert not room.admits(known, OTHER)
    assert room.admits(known)


def test_sessions_outlive_the_process(room: Room) -> None:
    known = room.enter()
    room.time += IDLE_S / 2
    assert room.admits(known)
    room.again()
    room.time += IDLE_S / 2 + 1
    assert room.admits(known)
    assert stat.S_IMODE(room.path.stat().st_mode) == 0o600
    text = room.path.read_text()
    assert known.cookie not in text
    assert known.key not in text


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"sessions":[{"digest":1}]}', '{"sessions":[{"digest":"","usedAt":1e99}]}'],
)
def test_a_file_that_somebody_has_written_lets_nobody_in(room: Room, text: str) -> None:
    room.path.write_text(text)
    assert not room.admits(Secrets("a", "b"))
    assert room.admits(room.enter())


def test_what_the_disk_does_not_take_is_in_force_all_the_same(tmp_path: Path) -> None:
    room = Room(tmp_path / "missing" / "place")
    assert room.admits(room.enter())


def test_a_clock_that_went_back_does_not_keep_a_session(room: Room) -> None:
    known = room.enter()
    kept = json.loads(room.path.read_text())
    kept["sessions"][0]["usedAt"] = room.time * 10
    room.path.write_text(json.dumps(kept))
    room.again()
    assert room.admits(known)
    room.time += IDLE_S + 1
    assert not room.admits(known)


# -- other pages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "headers", "may"),
    [
        ("GET", {}, True),
        ("HEAD", {}, True),
        ("GET", {"sec-fetch-site": "same-origin"}, True),
        ("GET", {"sec-fetch-site": "same-site"}, False),
        ("GET", {"sec-fetch-site": "cross-site"}, False),
        ("GET", {"sec-fetch-site": "none"}, False),
        ("POST", {}, False),
        ("DELETE", {}, False),
        ("POST", OWN, True),
        ("DELETE", OWN, True),
        ("POST", {**OWN, "sec-fetch-site": "same-origin"}, True),
        ("POST", {**OWN, "sec-fetch-site": "same-site"}, False),
    ],
)
def test_only_the_page_itself_may_use_its_session(
    room: Room, method: str, headers: dict[str, str], may: bool
) -> None:
    head = request(room.enter(), method, **headers)
    if may:
        assert room.access.admit(head, TOKEN)
    else:
        with pytest.raises(Problem) as caught:
            room.access.admit(head, TOKEN)
        assert caught.value.status == 403


def test_who_cannot_send_the_header_cannot_log_in() -> None:
    check_own_page(Head("POST", "/", {**OWN, "codexd-page": "none"}))
    for headers in (OWN, {"codexd-page": "none"}, {**OWN, "codexd-page": ""}):
        with pytest.raises(Problem):
            check_own_page(Head("POST", "/", headers))


def test_what_the_browser_is_told_of_its_cookie() -> None:
    plain = set_cookie(Head("POST", "/", {"host": HOST, **OWN}), "x")
    assert plain == "codexd_page_8765=x; Path=/; HttpOnly; SameSite=Strict"
    behind_tls = {"host": "hub.example", "origin": "https://hub.example"}
    assert set_cookie(Head("POST", "/", behind_tls), "x") == (
        "codexd_page=x; Path=/; HttpOnly; SameSite=Strict; Secure"
    )
