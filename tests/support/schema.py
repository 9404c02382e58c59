"""Checks what a hub says against the schema that the binary itself generates."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

from tests.support.client import AppClient
from tests.support.codex import codex_path

# Answers whose type's name does not follow from the name of the request's params.
_ANSWERS = {
    "account/rateLimits/read": "GetAccountRateLimitsResponse",
    "config/value/write": "ConfigWriteResponse",
    "config/batchWrite": "ConfigWriteResponse",
}


class Schemas:
    """The schemas of one version of codex, written to ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        command = [codex_path(), "app-server", "generate-json-schema", "--experimental"]
        home = directory / "home"
        home.mkdir()
        subprocess.run(
            [*command, "--out", str(directory)],
            env={"CODEX_HOME": str(home), "PATH": "/usr/bin:/bin"},
            check=True,
            capture_output=True,
            timeout=60,
        )
        self._files = {path.stem: path for path in directory.rglob("*.json")}

    def check(self, message: dict[str, Any], asked: str | None) -> None:
        """Fail if the message is not valid. ``asked`` is the method that a response answers."""
        if "method" in message:
            group = "ServerRequest" if "id" in message else "ServerNotification"
            validator = self._of_method(group, message["method"])
            validator.validate(message)
        elif "error" in message:
            self._of_type("JSONRPCError").validate(message)
        else:
            assert asked is not None, f"nobody asked for {message}"
            self._of_answer(asked).validate(message["result"])

    def messages(self, group: str) -> dict[str, dict[str, Any]]:
        """The schema of every message of a group (such as "ClientRequest"), by method."""
        document = self._read(group)
        return {
            branch["properties"]["method"]["enum"][0]: {
                **branch,
                "definitions": document["definitions"],
            }
            for branch in document["oneOf"]
        }

    def answers(self) -> dict[str, dict[str, Any]]:
        """The schema of every result of the server, by the method that asks for it."""
        found = {}
        for method, schema in self.messages("ClientRequest").items():
            name = self._answer_name(method, schema)
            if name in self._files:
                found[method] = self._read(name)
        return found

    @staticmethod
    def _answer_name(method: str, request: dict[str, Any]) -> str:
        reference: str = request["properties"].get("params", {}).get("$ref", "").rpartition("/")[2]
        return _ANSWERS.get(method, reference.removesuffix("Params") + "Response")

    @functools.cache  # noqa: B019 - lives as long as the test session
    def _read(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self._files[name].read_text("utf-8"))
        return document

    @functools.cache  # noqa: B019
    def _of_type(self, name: str) -> Draft7Validator:
        return Draft7Validator(self._read(name))

    @functools.cache  # noqa: B019
    def _of_method(self, group: str, method: str) -> Draft7Validator:
        schema = self.messages(group).get(method)
        assert schema is not None, f"{group} has no {method}"
        return Draft7Validator(schema)

    @functools.cache  # noqa: B019
    def _of_answer(self, method: str) -> Draft7Validator:
        request = self.messages("ClientRequest").get(method)
        assert request is not None, f"ClientRequest has no {method}"
        return self._of_type(self._answer_name(method, request))


class CheckedClient(AppClient):
    """A client that fails at the first message that is not valid."""

    def __init__(
        self, schemas: Schemas, path: str, name: str = "test", *, initialize: bool = True
    ) -> None:
        self._schemas = schemas
        self._asked: dict[Any, str] = {}
        super().__init__(path, name, initialize=initialize)

    def send(self, message: dict[str, Any]) -> None:
        """See :class:`AppClient`."""
        if "id" in message and "method" in message:
            self._asked[message["id"]] = message["method"]
        super().send(message)

    def receive(self, timeout_s: float = 20) -> dict[str, Any]:
        """See :class:`AppClient`."""
        message = super().receive(timeout_s)
        answers = "id" in message and "method" not in message
        self._schemas.check(message, self._asked.pop(message["id"], None) if answers else None)
        return message
