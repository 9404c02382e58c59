"""The routes of the page: its files, which tell nothing, and the way in for a browser."""

from __future__ import annotations

import functools
import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Final

import msgspec

from codexd.api.http import Access, Answer, Call, Problem
from codexd.api.page_access import CODE_S, PageAccess, check_own_page, set_cookie
from codexd.api.table import Nothing, route
from codexd.shapes import PageCode

_PLACE: Final = Path(__file__).resolve().parents[1] / "page"
_HTML: Final = "text/html"
_SCRIPT: Final = "text/javascript"
_STYLE: Final = "text/css"
_CODE_CHARS: Final = 128

# Nothing from elsewhere, nothing inline, and no text that becomes markup.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageLogin(msgspec.Struct, forbid_unknown_fields=True):
    """The code that `codexd dashboard` has made."""

    code: Annotated[str, msgspec.Meta(max_length=_CODE_CHARS)]


class PageKey(msgspec.Struct):
    """What the page sends as `Codexd-Page` from now on, beside its cookie."""

    key: str


class PageRoutes:
    """``access`` knows who uses it."""

    def __init__(self, access: PageAccess) -> None:
        self._access = access

    @route("GET", "/", Access.OPEN, answer=bytes, media_type=_HTML)
    async def page(self, call: Call[Nothing, None]) -> Answer:
        """Get the page for browsers; what it shows it asks for itself."""
        return _file(call, "index.html", _HTML)

    @route("GET", "/app.js", Access.OPEN, answer=bytes, media_type=_SCRIPT)
    async def script(self, call: Call[Nothing, None]) -> Answer:
        """Get the page's script."""
        return _file(call, "app.js", _SCRIPT)

    @route("GET", "/style.css", Access.OPEN, answer=bytes, media_type=_STYLE)
    async def style(self, call: Call[Nothing, None]) -> Answer:
        """Get the page's style."""
        return _file(call, "style.css", _STYLE)

    @route(
        "POST",
        "/v1/page/codes",
        Access.OWNER,
        answer=PageCode,
        status=HTTPStatus.CREATED,
        problems=(HTTPStatus.CONFLICT,),
    )
    async def make_code(self, call: Call[Nothing, None]) -> Answer:
        """Make a code that lets one browser in, once."""
        del call
        code, url = self._access.new_code()
        return Answer(PageCode(code, url, CODE_S), HTTPStatus.CREATED)

    @route(
        "POST",
        "/v1/page/sessions",
        Access.OPEN,
        body=PageLogin,
        answer=PageKey,
        status=HTTPStatus.CREATED,
        problems=(HTTPStatus.FORBIDDEN,),
    )
    async def log_in(self, call: Call[Nothing, PageLogin]) -> Answer:
        """Let a browser in by a code: it gets a cookie, and the page a key."""
        check_own_page(call.head)
        opened = self._access.open(call.body.code)
        if opened is None:
            text = "The code is used, or older than a minute: run `codexd dashboard` again."
            raise Problem(HTTPStatus.FORBIDDEN, "code-not-valid", text)
        headers = {"Set-Cookie": set_cookie(call.head, opened.cookie)}
        return Answer(PageKey(opened.key), HTTPStatus.CREATED, headers)


def _file(call: Call[Nothing, None], name: str, media_type: str) -> Answer:
    data, tag = _read(name)
    headers = {**_HEADERS, "ETag": tag}
    if tag in call.head.headers.get("if-none-match", ""):
        return Answer(b"", HTTPStatus.NOT_MODIFIED, headers, media_type)
    return Answer(data, headers=headers, media_type=f"{media_type}; charset=utf-8")


@functools.cache
def _read(name: str) -> tuple[bytes, str]:
    data = (_PLACE / name).read_bytes()
    return data, f'"{hashlib.sha256(data).hexdigest()[:32]}"'
