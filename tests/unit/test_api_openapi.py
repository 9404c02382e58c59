"""The description of the API: valid, and of all there is."""

from __future__ import annotations

import asyncio
import json
import re
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from codexd.api.http import Access, Answer, Call, Head
from codexd.api.openapi import OpenApiRoutes, describe
from codexd.api.table import Table, route
from tests.support.nouns import all_rows

# As contracts name them: whoever generates a client has these in its signatures.
PARAMETERS = {"sessionId", "threadId", "turnId", "approvalId", "changeId"}


class Wanted(msgspec.Struct, forbid_unknown_fields=True, rename="camel", frozen=True):
    thing_kind: list[str] = []
    limit: Annotated[int, msgspec.Meta(ge=1, description="How many.")] = 50


class Sent(msgspec.Struct, forbid_unknown_fields=True, rename="camel", frozen=True):
    input_text: str


class Things:
    @route("GET", "/v1/things/{thingId}", Access.READ, query=Wanted, answer=list[Sent])
    async def show(self, call: Call[Wanted, None]) -> None:
        """Show one thing."""

    @route(
        "POST",
        "/v1/things/{thingId}",
        Access.ADMIN,
        body=Sent,
        answer=Sent,
        status=HTTPStatus.CREATED,
        also={HTTPStatus.OK: dict[str, Any]},
        problems=(HTTPStatus.CONFLICT,),
        streams=("text/event-stream",),
    )
    async def make(self, call: Call[Any, Sent]) -> None:
        """Make one."""

    @route("GET", "/text", Access.OPEN, answer=bytes, media_type="text/plain")
    async def text(self, call: Call[Any, None]) -> None:
        """Read it."""


def test_all_there_is_is_described_as_the_standard_wants_it() -> None:
    rows = all_rows()
    document = describe(rows)
    OpenAPIV31SpecValidator(document).validate()
    described = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert described == {(row.method, row.path) for row in rows}
    assert ("GET", "/v1/openapi.json") in described
    names = re.findall(r"\{(\w+)\}", " ".join(document["paths"]))
    assert set(names) <= PARAMETERS
    ids = [op["operationId"] for ops in document["paths"].values() for op in ops.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("row", all_rows(), ids=lambda row: f"{row.method} {row.path}")
def test_every_route_says_what_it_does_and_answers(row: Any) -> None:
    assert re.fullmatch(r"[A-Z].+\w\.", row.summary)
    assert row.answer is not None or row.status is HTTPStatus.NO_CONTENT
    assert row.body is None or row.body.__struct_config__.forbid_unknown_fields
    assert row.query.__struct_config__.forbid_unknown_fields


def test_an_operation_has_what_its_row_has() -> None:
    document = describe(Table([Things()]).rows)
    OpenAPIV31SpecValidator(document).validate()
    shown = document["paths"]["/v1/things/{thingId}"]["get"]
    assert shown["operationId"] == "getThingsByThingId"
    assert (shown["summary"], shown["tags"]) == ("Show one thing.", ["things"])
    assert [(item["name"], item["in"]) for item in shown["parameters"]] == [
        ("thingId", "path"),
        ("thingKind", "query"),
        ("limit", "query"),
    ]
    assert shown["parameters"][2]["schema"]["minimum"] == 1
    assert shown["security"] == [{"bearer": []}, {}]
    made = document["paths"]["/v1/things/{thingId}"]["post"]
    assert made["requestBody"]["required"] is True
    assert set(made["responses"]) == {"201", "200", "409", "default"}
    assert set(made["responses"]["201"]["content"]) == {"application/json", "text/event-stream"}
    text = document["paths"]["/text"]["get"]
    assert text["security"] == [{}]
    assert text["responses"]["200"]["content"] == {"text/plain": {"schema": {"type": "string"}}}
    sent = document["components"]["schemas"]["Sent"]
    assert (sent["required"], sent["additionalProperties"]) == (["inputText"], False)


def test_it_is_answered_with_itself_in_it() -> None:
    table: Table = Table([Things(), OpenApiRoutes(lambda: table.rows)])

    async def ask() -> Answer:
        head = Head("GET", "/v1/openapi.json", {})
        answer = await table.find(head, Access.READ)[1](b"")
        assert isinstance(answer, Answer)
        return answer

    paths = json.loads(asyncio.run(ask()).encoded())["paths"]
    assert list(paths) == ["/text", "/v1/openapi.json", "/v1/things/{thingId}"]
