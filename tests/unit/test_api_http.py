"""The table of routes: what is found, refused, and told of what was sent."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, Literal

import msgspec
import pytest

from codexd.api.health import HealthRoutes
from codexd.api.http import Access, Answer, Call, Head, Problem, problem_answer
from codexd.api.status import StatusRoutes
from codexd.api.table import Table, route, rows_of


class Wanted(msgspec.Struct, forbid_unknown_fields=True, rename="camel", frozen=True):
    limit: int = 50
    thread_id: str | None = None
    most: int | None = None
    type: list[str] = []


class Put(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    when: Literal["now", "later"] | None = None
    levels: list[Literal["info", "warn"]] = []


class Inner(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    when: str = ""


class Placed(Put, forbid_unknown_fields=True, frozen=True):
    where: Inner | None = None


class Sent(msgspec.Struct, forbid_unknown_fields=True, rename="camel", frozen=True):
    input_text: str
    parts: list[int] = []


class Things:
    @route("GET", "/things/{thingId}", Access.READ, query=Wanted, answer=dict[str, Any])
    async def show(self, call: Call[Wanted, None]) -> dict[str, Any]:
        """Show one thing."""
        return {"id": call.params["thingId"], "query": call.query}

    @route("POST", "/things/{thingId}", Access.ADMIN, body=Sent, status=HTTPStatus.CREATED)
    async def make(self, call: Call[Any, Sent]) -> Sent:
        """Make one."""
        return call.body

    @route("PUT", "/things/{thingId}", Access.ADMIN, query=Put, body=Placed)
    async def put(self, call: Call[Put, Placed]) -> Placed:
        """Put it there."""
        return call.body


def ask(
    method: str,
    target: str,
    body: bytes = b"",
    *,
    access: Access = Access.ADMIN,
    ready: bool = True,
) -> tuple[int, Any]:
    table = Table([Things(), HealthRoutes(lambda: ready), StatusRoutes(lambda: {"clients": 3})])

    async def main() -> Answer:
        try:
            row, answer = table.find(Head(method, target, {}), access)
            result = await answer(body)
            assert row.method in (method, "GET")
        except Problem as problem:
            result = problem_answer(problem)
        assert isinstance(result, Answer)
        return result

    answer = asyncio.run(main())
    return answer.status.value, json.loads(answer.encoded())


def test_healthz_answers_while_the_plugin_lives() -> None:
    assert ask("GET", "/healthz", ready=False, access=Access.OPEN) == (200, {"alive": True})


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
def test_readyz_tells_whether_the_child_is_ready(ready: bool, status: int) -> None:
    assert ask("GET", "/readyz", ready=ready, access=Access.OPEN) == (status, {"ready": ready})


def test_status_is_what_the_owner_gives() -> None:
    assert ask("GET", "/v1/status") == (200, {"clients": 3})


def test_a_path_and_a_query_are_decoded() -> None:
    status, answer = ask("GET", "/things/a%2Fb%20c?threadId=t&limit=7&type=x&type=y")
    assert status == 200
    assert answer == {
        "id": "a/b c",
        "query": {"limit": 7, "threadId": "t", "most": None, "type": ["x", "y"]},
    }


def test_a_body_is_decoded_and_the_status_is_that_of_the_row() -> None:
    assert ask("POST", "/things/1", b'{"inputText":"x"}') == (201, {"inputText": "x", "parts": []})


@pytest.mark.parametrize(
    ("method", "target", "body", "field"),
    [
        ("GET", "/things/1?limit=many", b"", "limit"),
        ("GET", "/things/1?nothing=1", b"", "nothing"),
        ("GET", "/things/1?most=null", b"", "most"),
        ("GET", "/things/1?limit=1&limit=2", b"", "limit"),
        ("POST", "/things/1", b'{"inputText":"x","what":1}', "what"),
        ("POST", "/things/1", b'{"inputText":7}', "inputText"),
        ("POST", "/things/1", b"", "inputText"),
        ("POST", "/things/1", b'{"inputText":"x","parts":[1,"2"]}', "parts[1]"),
        ("POST", "/things/1", b"{", None),
        ("POST", "/things/1", b"\xff", None),
        ("POST", "/things/1", b"[" * 100_000, None),
        ("GET", "/things/1", b"{}", None),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    method: str, target: str, body: bytes, field: str | None
) -> None:
    status, problem = ask(method, target, body)
    assert (status, problem["type"]) == (400, "urn:codexd:invalid-request")
    assert problem.get("field") == field
    assert field is None or field.partition("[")[0] in problem["detail"]


@pytest.mark.parametrize(
    ("query", "body", "known"),
    [
        ("when=soon", b"", "known: now, later."),
        ("levels=warn&levels=bad", b"", "known: info, warn."),
        ("", b'{"when":"soon"}', "known: now, later."),
        ("", b'{"wen":"now"}', "known: when, levels, where."),
        ("wen=now", b"", "known: when, levels."),
    ],
)
def test_what_there_is_to_choose_from_is_told(query: str, body: bytes, known: str) -> None:
    status, problem = ask("PUT", f"/things/1?{query}", body)
    assert status == 400
    assert problem["detail"].endswith(known)


def test_a_field_within_another_is_named_with_it() -> None:
    status, problem = ask("PUT", "/things/1", b'{"where":{"wen":"now"}}')
    assert (status, problem["field"]) == (400, "where.wen")
    assert "known:" not in problem["detail"], "that is of another object"


def test_what_is_not_there_and_what_is_not_answered_so() -> None:
    assert ask("GET", "/things")[0] == 404
    assert ask("GET", "/things/1/2")[0] == 404
    status, problem = ask("DELETE", "/things/1")
    assert (status, problem["title"]) == (405, "Method Not Allowed")
    assert "GET, HEAD, POST, PUT" in problem["detail"]
    assert ask("HEAD", "/things/1")[0] == 200
    assert ask("get", "/things/1")[0] == 405


@pytest.mark.parametrize(
    ("method", "granted", "status"),
    [
        ("GET", Access.OPEN, 401),
        ("GET", Access.METRICS, 403),
        ("GET", Access.READ, 200),
        ("GET", Access.ADMIN, 200),
        ("POST", Access.OPEN, 401),
        ("POST", Access.READ, 403),
        ("POST", Access.ADMIN, 201),
    ],
)
def test_a_route_is_for_those_who_may(method: str, granted: Access, status: int) -> None:
    body = b'{"inputText":"x"}' if method == "POST" else b""
    assert ask(method, "/things/1", body, access=granted)[0] == status


def test_the_rows_of_a_noun_are_told_in_their_order() -> None:
    rows = rows_of(Things)
    assert [(row.method, row.summary) for row in rows] == [
        ("GET", "Show one thing."),
        ("POST", "Make one."),
        ("PUT", "Put it there."),
    ]
    assert rows[0].parameters == ("thingId",)


@pytest.mark.parametrize(
    ("accept", "taken"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("application/json;q=0.1, text/event-stream", "text/event-stream"),
        ("text/*", "text/event-stream"),
        ("image/png", "application/json"),
        ("text/event-stream;q=0", "application/json"),
        ("text/event-stream;q=much", "application/json"),
    ],
)
def test_the_media_type_is_what_is_asked_for(accept: str, taken: str) -> None:
    head = Head("GET", "/", {"accept": accept})
    assert head.wants("application/json", "text/event-stream") == taken
