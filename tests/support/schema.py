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

    @functools.cache  # noqa: B019 - lives as long as the test session
    def _read(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self._files[name].read_text("utf-8"))
        return document

    @functools.cache  # noqa: B019
    def _of_type(self, name: str) -> Draft7Validator:
        return Draft7Validator(self._read(name))

    @functools.cache  # noqa: B019
    def _of_method(self, group: str, method: str) -> Draft7Validator:
        document = self._read(group)
        for branch in document["oneOf"]:
            if branch["properties"]["method"]["enum"] == [method]:
                return Draft7Validator({**branch, "definitions": document["definitions"]})
        raise AssertionError(f"{group} has no {method}")

    @functools.cache  # noqa: B019
    def _of_answer(self, method: str) -> Draft7Validator:
        if method in _ANSWERS:
            return self._of_type(_ANSWERS[method])
        for branch in self._read("ClientRequest")["oneOf"]:
            if branch["properties"]["method"]["enum"] == [method]:
                reference = branch["properties"]["params"]["$ref"].rpartition("/")[2]
                return self._of_type(reference.removesuffix("Params") + "Response")
        raise AssertionError(f"ClientRequest has no {method}")


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
