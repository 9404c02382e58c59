"""The table of routes: what is answered, to whom, and with which types.

A route is a method of the class of its noun, marked by :func:`route`. From the rows come routing,
405 and Allow, HEAD, the check of what was sent, OpenAPI and the page of the reference.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl, unquote

import msgspec

from codexd.api.http import JSON, Access, Answer, Call, Head, Problem, Stream
from codexd.encoding import UNDECODABLE, convert, decode_json

Result = Answer | Stream
Handler = Callable[[Call[Any, Any]], Awaitable[Any]]
_Function = TypeVar("_Function", bound=Callable[..., Awaitable[Any]])

_MARK: Final = "__route__"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """The query of a route that takes none."""


class Row(msgspec.Struct, frozen=True):
    """One route.

    ``query`` and ``body`` are the types of what is sent (None: no body), ``answer`` is that of what
    comes back with ``status``; ``also`` are the other statuses that are no problems, each with the
    type of its answer; ``streams`` the media types in which it can be had piece by piece, and
    ``media_type`` the usual one.
    """

    method: str
    path: str
    access: Access
    summary: str
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] | None = None
    answer: Any = None
    status: HTTPStatus = HTTPStatus.OK
    also: Mapping[HTTPStatus, Any] = msgspec.field(default_factory=dict)
    problems: tuple[HTTPStatus, ...] = ()
    media_type: str = JSON
    streams: tuple[str, ...] = ()

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the path."""
        return tuple(_PARAMETER.findall(self.path))


def route(method: str, path: str, access: Access, **kinds: Any) -> Callable[[_Function], _Function]:
    """Mark a method as the handler of a route; ``kinds`` are the other fields of :class:`Row`.

    Its docstring's first line is the summary. It returns an :class:`Answer` or a :class:`Stream`,
    or a value, which is sent as JSON with the status of the row.
    """

    def mark(function: _Function) -> _Function:
        summary = (function.__doc__ or "").partition("\n")[0]
        setattr(function, _MARK, Row(method, path, access, summary, **kinds))
        return function

    return mark


def rows_of(noun: type) -> list[Row]:
    """The routes of a class, in the order in which they stand there."""
    found = (getattr(value, _MARK, None) for value in vars(noun).values())
    return [row for row in found if row is not None]


class _Bound(msgspec.Struct, frozen=True):
    row: Row
    handler: Handler


class Table:
    """Finds the route of a request, checks what was sent, and has it answered."""

    def __init__(self, nouns: Iterable[object]) -> None:
        self._fixed: dict[str, dict[str, _Bound]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, _Bound]]] = []
        by_path: dict[str, dict[str, _Bound]] = {}
        for noun in nouns:
            for name, value in vars(type(noun)).items():
                row = getattr(value, _MARK, None)
                if row is not None:
                    by_path.setdefault(row.path, {})[row.method] = _Bound(row, getattr(noun, name))
        for path, methods in by_path.items():
            if _PARAMETER.search(path):
                self._patterns.append((_pattern(path), methods))
            else:
                self._fixed[path] = methods

    @property
    def rows(self) -> list[Row]:
        """Every route."""
        tables = [*self._fixed.values(), *(methods for _, methods in self._patterns)]
        return [bound.row for methods in tables for bound in methods.values()]

    def find(self, head: Head, access: Access) -> tuple[Row, Callable[[bytes], Awaitable[Result]]]:
        """The route, and what answers it when it is called with the body. Reads no body.

        Raises:
            Problem: there is none, or it is not for whoever asks, or the query is wrong.
        """
        methods, params = self._match(head.path)
        if not methods:
            text = f"There is nothing at {head.path}. GET /v1/openapi.json has all there is."
            raise Problem(HTTPStatus.NOT_FOUND, "not-found", text)
        bound = methods.get("GET" if head.method == "HEAD" else head.method)
        if bound is None:
            allowed = ", ".join(_allowed(methods))
            text = f"{head.path} answers {allowed}, and not {head.method}."
            allow = {"Allow": allowed}
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", text, headers=allow)
        check_access(bound.row.access, access)
        query = _read_query(bound.row, head)
        return bound.row, functools.partial(_run, bound, head, access, params, query)

    def _match(self, path: str) -> tuple[Mapping[str, _Bound], Mapping[str, str]]:
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed, {}
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return methods, {name: unquote(value) for name, value in match.groupdict().items()}
        return {}, {}


def check_access(wanted: Access, granted: Access) -> None:
    """See that whoever asks may have it.

    Raises:
        Problem: 401 for somebody unknown, 403 for who may less.
    """
    if granted >= wanted:
        return
    if granted is Access.OPEN:
        raise unauthorized()
    text = "This token is for reading only: use the one that `codexd token` prints."
    if wanted is Access.OWNER:
        text = "That is for the owner of codexd.sock, on the machine itself, whatever the token."
    raise Problem(HTTPStatus.FORBIDDEN, "forbidden", text)


def unauthorized(*, is_wrong: bool = False) -> Problem:
    """401: there is no token, or a wrong one."""
    missing = "Send the token as `Authorization: Bearer TOKEN`; `codexd token` prints it."
    wrong = "This token is not valid, or not any more; `codexd token` prints the one that is."
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        wrong if is_wrong else missing,
        headers={"WWW-Authenticate": 'Bearer realm="codexd"'},
    )


async def _run(
    bound: _Bound,
    head: Head,
    access: Access,
    params: Mapping[str, str],
    query: msgspec.Struct,
    data: bytes,
) -> Result:
    body = _read_body(bound.row, data)
    result = await bound.handler(Call(head, access, params, query, body))
    if isinstance(result, (Answer, Stream)):
        return result
    return Answer(result, bound.row.status)


def _allowed(methods: Iterable[str]) -> list[str]:
    allowed = set(methods)
    return sorted(allowed | {"HEAD"} if "GET" in allowed else allowed)


def _pattern(path: str) -> re.Pattern[str]:
    pieces = _PARAMETER.split(path)
    text = re.escape(pieces[0])
    for name, after in zip(pieces[1::2], pieces[2::2], strict=True):
        text += f"(?P<{name}>[^/]+)" + re.escape(after)
    return re.compile(text)


def _read_query(row: Row, head: Head) -> msgspec.Struct:
    given: dict[str, Any] = {}
    hints = _types(row.query)
    for name, value in parse_qsl(head.query, keep_blank_values=True, max_num_fields=None):
        if get_origin(hints.get(name)) is list:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise invalid(f"The parameter `{name}` was given twice.", name)
        else:
            given[name] = value
    try:
        query = convert(given, row.query, strict=False)
    except msgspec.ValidationError as error:
        text = f"The query is not understood: {_told(error, row.query)}."
        raise invalid(text, _field(error)) from error
    for item in msgspec.structs.fields(row.query):
        # msgspec takes the word for what a parameter is that was not given.
        if item.encode_name in given and getattr(query, item.name) is None:
            text = f"The parameter `{item.encode_name}` is never null: leave it out."
            raise invalid(text, item.encode_name)
    return query


@functools.cache
def _types(struct: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(struct)
    return {item.encode_name: hints[item.name] for item in msgspec.structs.fields(struct)}


def _read_body(row: Row, data: bytes) -> msgspec.Struct | None:
    if row.body is None:
        if data.strip():
            raise invalid(f"{row.method} {row.path} takes no body.", None)
        return None
    try:
        return decode_json(data.strip() or b"{}", row.body)
    except msgspec.ValidationError as error:
        text = f"The body is not understood: {_told(error, row.body)}."
        raise invalid(text, _field(error)) from error
    except UNDECODABLE as error:
        raise invalid(f"The body is not understood: {error}.", None) from error


def invalid(detail: str, name: str | None) -> Problem:
    """400: something that was sent is wrong; ``name`` is the field, where it is one."""
    more = {} if name is None else {"field": name}
    return Problem(HTTPStatus.BAD_REQUEST, "invalid-request", detail, more=more)


def _field(error: Exception) -> str | None:
    """The field that msgspec's message names: in backticks, or by its path."""
    text = str(error)
    path = text.rpartition(" - at `$")[2].rstrip("`").lstrip(".") if " - at `$" in text else ""
    named = re.search(r"field `([^`]*)`", text)
    if named is None:
        return path or None
    return f"{path}.{named[1]}" if path else named[1]


def _told(error: msgspec.ValidationError, struct: type[msgspec.Struct]) -> str:
    """msgspec's message, and what there would have been to choose from."""
    text, hints = str(error), _types(struct)
    choice: tuple[str, ...] = ()
    if text.startswith("Invalid enum value"):
        choice = _words(hints.get((_field(error) or "").partition("[")[0]))
    elif text.startswith("Object contains unknown field") and " - at `$" not in text:
        choice = tuple(hints)
    return f"{text}; known: {', '.join(choice)}" if choice else text


def _words(hint: Any) -> tuple[str, ...]:
    """Every word that a type has."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(word for inner in get_args(hint) for word in _words(inner))
