from __future__ import annotations

import contextlib
import json
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexd.api.http import BadRequest, HttpRequest, HttpResponse, parse_head
from codexd.api.routes import Routes


def routes(*, ready: bool = True) -> Routes:
    return Routes(lambda: ready, lambda: b'{"clients":3}')


def get(path: str, *, method: str = "GET", ready: bool = True) -> HttpResponse:
    return routes(ready=ready)(HttpRequest(method, path, {}))


def test_a_head_is_taken_apart() -> None:
    request = parse_head(b"GET /v1/status?a=b HTTP/1.1\r\nHost: x\r\nUPGRADE:  WebSocket ")
    assert request.method == "GET"
    assert request.path == "/v1/status"
    assert request.headers == {"host": "x", "upgrade": "WebSocket"}
    assert request.wants_websocket


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"hello",
        b"GET /",
        b"GET / HTTP/2",
        b"GET / HTTP/1.1\r\nno colon",
        b"\x16\x03 / HTTP/1.1",
    ],
)
def test_a_head_that_is_none_is_refused(head: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_head(head)


@given(st.binary(max_size=200))
def test_no_head_does_more_harm_than_being_refused(head: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert parse_head(head).method.isalpha()


def test_healthz_answers_while_the_plugin_lives() -> None:
    assert get("/healthz", ready=False).status == HTTPStatus.OK


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
def test_readyz_tells_whether_the_child_is_ready(ready: bool, status: int) -> None:
    answer = get("/readyz", ready=ready)
    assert answer.status == status
    assert json.loads(answer.body) == {"ready": ready}


def test_status_is_what_the_owner_gives() -> None:
    assert get("/v1/status").body == b'{"clients":3}'


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/", "GET", 404), ("/healthz", "POST", 405)]
)
def test_errors_are_one_line_of_json(path: str, method: str, status: int) -> None:
    answer = get(path, method=method)
    assert answer.status == status
    assert path in json.loads(answer.body)["error"]
    assert answer.body.count(b"\n") == 1


def test_an_answer_says_how_long_it_is_and_that_it_is_the_last() -> None:
    head, _, body = get("/healthz", method="PUT").encode().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 405 Method Not Allowed"
    assert f"Content-Length: {len(body)}" in lines
    assert "Connection: close" in lines
    assert "Allow: GET" in lines
