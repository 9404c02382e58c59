"""The description of the API in OpenAPI 3.1, made from the table of routes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from codexd import __version__
from codexd.api.http import JSON, PROBLEM_JSON, Access, Answer, Call
from codexd.api.table import Nothing, Row, route

_DESCRIPTION: Final = """\
codexd keeps one `codex app-server` up, and lets programs drive it. On codexd.sock whoever reaches
the socket is its owner; on TCP a token is asked for. Unknown fields are refused by name. Every GET
answers HEAD as well. Errors are problems (RFC 9457) whose type is `urn:codexd:KIND`."""

_PATH_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_TOKENLESS: Final = (Access.OPEN, Access.OWNER)
_REF: Final = "#/components/schemas/{name}"


class ProblemDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was wrong; ``detail`` says what to do, ``field`` names what is not understood."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None


class OpenApiRoutes:
    """``rows`` gives every route there is."""

    def __init__(self, rows: Callable[[], Iterable[Row]]) -> None:
        self._rows = rows
        self._encoded: bytes | None = None

    @route("GET", "/v1/openapi.json", Access.READ, answer=dict[str, Any])
    async def openapi(self, call: Call[Nothing, None]) -> Answer:
        """Describe this API in OpenAPI 3.1."""
        del call
        if self._encoded is None:
            self._encoded = msgspec.json.encode(describe(self._rows())) + b"\n"
        return Answer(self._encoded)


def describe(rows: Iterable[Row]) -> dict[str, Any]:
    """The OpenAPI document of these routes."""
    rows = list(rows)
    schemas = _Schemas(rows)
    paths: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row.path):
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "codexd", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "http://localhost", "description": "codexd.sock, a Unix socket"}],
        "paths": paths,
        "components": {
            "schemas": schemas.kept([paths, schemas.problem]),
            "responses": {"Problem": _problem(schemas)},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Asked for on TCP only; `codexd token` prints it.",
                }
            },
        },
    }


class _Schemas:
    """The JSON schema of every type in the rows, by reference."""

    def __init__(self, rows: list[Row]) -> None:
        types = [kind for row in rows for kind in _types(row)]
        found, self.components = msgspec.json.schema_components(
            [*types, ProblemDocument], ref_template=_REF
        )
        self._by_type = {repr(kind): schema for kind, schema in zip(types, found, strict=False)}
        self.problem = found[-1]

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of one type."""
        return {"type": "string"} if kind is bytes else self._by_type[repr(kind)]

    def fields(self, struct: type[msgspec.Struct]) -> dict[str, dict[str, Any]]:
        """The schema of each of its fields."""
        name = self.of(struct)["$ref"].rpartition("/")[2]
        properties: dict[str, dict[str, Any]] = self.components[name].get("properties", {})
        return properties

    def kept(self, document: Any) -> dict[str, Any]:
        """Those that the document names: a query is told parameter by parameter."""
        named, before = _named(document), -1
        while before != len(named):
            before = len(named)
            named |= {name for known in named for name in _named(self.components[known])}
        return {name: self.components[name] for name in sorted(named)}


def _named(value: Any) -> set[str]:
    """Every schema that is referred to somewhere in it."""
    if isinstance(value, dict):
        ref = value.get("$ref", "")
        own = {ref.rpartition("/")[2]} if str(ref).startswith("#/components/schemas/") else set()
        return own.union(*(_named(entry) for entry in value.values()))
    if isinstance(value, list):
        return set().union(*(_named(entry) for entry in value))
    return set()


def _types(row: Row) -> list[Any]:
    kinds = [row.query, row.body, row.answer, *row.also.values()]
    return [kind for kind in kinds if kind not in (None, bytes)]


def _operation(row: Row, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(row),
        "summary": row.summary,
        "tags": [row.path.removeprefix("/v1").split("/")[1].partition(".")[0] or "page"],
        "parameters": [*_in_path(row), *_in_query(row, schemas)],
        "responses": _responses(row, schemas),
        # None is needed on a Unix socket, and for what is the owner's none is enough elsewhere.
        "security": [{}] if row.access in _TOKENLESS else [{"bearer": []}, {}],
        "x-codexd-access": row.access.name.lower(),
    }
    if row.body is not None:
        is_required = any(field.required for field in msgspec.structs.fields(row.body))
        content = {JSON: {"schema": schemas.of(row.body)}}
        operation["requestBody"] = {"required": is_required, "content": content}
    return operation


def _name(row: Row) -> str:
    """As `getChangesByChangeId`."""
    words = re.findall(r"\w+", _PATH_PARAMETER.sub(r"by/\1", row.path.removeprefix("/v1")))
    return row.method.lower() + "".join(word[0].upper() + word[1:] for word in words)


def _in_path(row: Row) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in row.parameters
    ]


def _in_query(row: Row, schemas: _Schemas) -> list[dict[str, Any]]:
    properties = schemas.fields(row.query)
    fields = {field.encode_name: field for field in msgspec.structs.fields(row.query)}
    return [
        {"name": name, "in": "query", "required": fields[name].required, "schema": _sent(schema)}
        for name, schema in properties.items()
    ]


def _sent(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is there or not: it is never null."""
    options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    default = schema.get("default")
    if default not in (None, []):
        rest["default"] = default
    if not options:
        return rest
    return {**rest, **(options[0] if len(options) == 1 else {"anyOf": options})}


def _responses(row: Row, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {str(row.status.value): _response(row, row.status, schemas)}
    for status, kind in row.also.items():
        responses[str(status.value)] = _plain(status, schemas, kind)
    for status in row.problems:
        responses[str(status.value)] = {"$ref": "#/components/responses/Problem"}
    responses["default"] = {"$ref": "#/components/responses/Problem"}
    return responses


def _response(row: Row, status: HTTPStatus, schemas: _Schemas) -> dict[str, Any]:
    response = _plain(status, schemas, row.answer, row.media_type)
    for media_type in row.streams:
        response.setdefault("content", {})[media_type] = {"schema": {"type": "string"}}
    return response


def _plain(
    status: HTTPStatus, schemas: _Schemas, kind: Any, media_type: str = JSON
) -> dict[str, Any]:
    response: dict[str, Any] = {"description": status.phrase}
    if kind is not None:
        response["content"] = {media_type: {"schema": schemas.of(kind)}}
    return response


def _problem(schemas: _Schemas) -> dict[str, Any]:
    content: Mapping[str, Any] = {PROBLEM_JSON: {"schema": schemas.problem}}
    return {"description": inspect.cleandoc(ProblemDocument.__doc__ or ""), "content": content}
