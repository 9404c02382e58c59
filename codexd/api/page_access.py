"""Who uses the page in a browser: the codes that let one in, and the sessions that they open.

A session has two secrets. The cookie is kept by the browser where no script reads it, and sent to
every port of the machine; the key is kept by the page, where no other port's page reads it, and
sent in a header that no page of another site can send. One without the other opens nothing.

What is kept is a digest of both together with the token that was in force: with another token no
session is known any more, and a file that somebody else has made lets nobody in.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final

import msgspec

from codexd.api.http import Head, Problem
from codexd.encoding import UNDECODABLE, decode_json, encode_json
from codexd.platform.files import read_whole, write_aside

FILE: Final = "page-sessions.json"
KEY_HEADER: Final = "codexd-page"
CODE_S: Final = 60.0
IDLE_S: Final = 12 * 3600.0

_SECRET_BYTES: Final = 32
_MOST_CODES: Final = 8
_MOST_SESSIONS: Final = 16
_MOST_COOKIES: Final = 200
# How old what is written about the last use may be.
_WRITE_S: Final = 300.0
_SAFE: Final = ("GET", "HEAD")


class _Session(msgspec.Struct, rename="camel"):
    digest: str
    used_at: float


class _Kept(msgspec.Struct):
    sessions: list[_Session] = []


class Secrets(msgspec.Struct, frozen=True):
    """What a session is known by."""

    cookie: str
    key: str


class PageAccess:
    """The codes and the sessions. ``path`` is where the sessions outlive this process."""

    def __init__(self, path: str, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._codes: dict[bytes, float] = {}
        self._sessions: dict[str, float] | None = None
        self._written_at = 0.0
        self._url: Callable[[], str] | None = None
        self._token: Callable[[], bytes | None] = lambda: None

    def serve(self, url: Callable[[], str], token: Callable[[], bytes | None]) -> None:
        """There is a listener: ``url()`` is its page, ``token()`` the digest of its token."""
        self._url = url
        self._token = token

    def new_code(self) -> tuple[str, str]:
        """A code, and the address of the page that it opens.

        Raises:
            Problem: there is no listener.
        """
        if self._url is None:
            text = (
                "The page is served on TCP only, and codexd has no listener there: start it with "
                '`--hub-listen 127.0.0.1:0`, or hub_listen = "127.0.0.1:0" in codexd.toml. Where '
                "it has one, `codexd status` says why that is not open."
            )
            raise Problem(HTTPStatus.CONFLICT, "no-listener", text)
        while len(self._codes) >= _MOST_CODES:
            del self._codes[next(iter(self._codes))]
        code = secrets.token_urlsafe(_SECRET_BYTES)
        self._codes[_digest(code)] = self._now()
        return code, self._url()

    def open(self, code: str) -> Secrets | None:
        """A session, for who has a code that was not used; None for anybody else."""
        self._forget_codes()
        token = self._token()
        is_known = self._codes.pop(_digest(code), None) is not None
        if not is_known or token is None:
            return None
        made = Secrets(secrets.token_urlsafe(_SECRET_BYTES), secrets.token_urlsafe(_SECRET_BYTES))
        sessions = self._living()
        while len(sessions) >= _MOST_SESSIONS:
            del sessions[min(sessions, key=sessions.__getitem__)]
        sessions[_session_digest(token, made)] = self._now()
        self._write()
        return made

    def admit(self, head: Head, token: bytes) -> bool:
        """Whether the request is of the page, in a browser with a session.

        Raises:
            Problem: it has a session's secrets, and is of another page.
        """
        key = head.headers.get(KEY_HEADER, "")
        sessions = self._living()
        found = (_session_digest(token, Secrets(cookie, key)) for cookie in _cookies(head))
        digest = next((digest for digest in found if digest in sessions), None)
        if digest is None:
            return False
        check_own_page(head)
        sessions[digest] = self._now()
        if self._now() - self._written_at >= _WRITE_S:
            self._write()
        return True

    def _living(self) -> dict[str, float]:
        """The sessions that have not ended."""
        if self._sessions is None:
            self._sessions = self._read()
        since = self._now() - IDLE_S
        for digest in [name for name, used_at in self._sessions.items() if used_at < since]:
            del self._sessions[digest]
        return self._sessions

    def _read(self) -> dict[str, float]:
        with contextlib.suppress(OSError, *UNDECODABLE):
            kept = decode_json(read_whole(self._path), _Kept)
            # A clock that was set back does not make a session live longer.
            now = self._now()
            found = kept.sessions[-_MOST_SESSIONS:]
            return {session.digest: min(session.used_at, now) for session in found}
        return {}

    def _write(self) -> None:
        """Write the sessions down; a full disk costs a login after the next restart."""
        self._written_at = self._now()
        kept = _Kept([_Session(digest, at) for digest, at in (self._sessions or {}).items()])
        with contextlib.suppress(OSError):
            write_aside(self._path, encode_json(kept) + b"\n", flush=False)

    def _forget_codes(self) -> None:
        now = self._now()
        for digest, made_at in list(self._codes.items()):
            if not 0 <= now - made_at < CODE_S:
                del self._codes[digest]


def check_own_page(head: Head) -> None:
    """See that the browser says that codexd's own page asks.

    What it says in `Origin` was compared with the listener's own name already; browsers send it
    with everything that is no GET.

    Raises:
        Problem: 403.
    """
    site = head.headers.get("sec-fetch-site", "same-origin")
    is_named = head.method in _SAFE or "origin" in head.headers
    if site != "same-origin" or not is_named or not head.headers.get(KEY_HEADER):
        text = "Only codexd's own page may do that by its cookie; programs send the token."
        raise Problem(HTTPStatus.FORBIDDEN, "foreign-origin", text)


def set_cookie(head: Head, value: str) -> str:
    """The header that gives the browser its cookie; it ends with the browser."""
    is_tls = head.headers.get("origin", "").startswith("https:")
    secure = "; Secure" if is_tls else ""
    return f"{_cookie_name(head)}={value}; Path=/; HttpOnly; SameSite=Strict{secure}"


def _cookie_name(head: Head) -> str:
    """One for each port, as browsers do not part them by port."""
    port = head.headers.get("host", "").rpartition(":")[2]
    return f"codexd_page_{port}" if port.isascii() and port.isdecimal() else "codexd_page"


def _cookies(head: Head) -> Iterator[str]:
    """Every value of our cookie: another port can set one of this name, and it must not count.

    Whatever else the machine's other ports have set stands beside it, however it is written.
    """
    name = _cookie_name(head)
    for part in head.headers.get("cookie", "").split(";")[:_MOST_COOKIES]:
        found, _, value = part.strip().partition("=")
        if found == name:
            yield value


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _session_digest(token: bytes, secrets_: Secrets) -> str:
    both = _digest(secrets_.cookie) + _digest(secrets_.key)
    return hmac.new(token, both, hashlib.sha256).hexdigest()
