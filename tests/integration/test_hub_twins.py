"""What each client gets behind the hub is what it gets from the server itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import twins
from tests.support.codex import codex_path

pytestmark = pytest.mark.real
DOCS = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "hub.md"


def test_every_client_gets_what_the_server_itself_would_send() -> None:
    found = twins.compare(codex_path(), "stdio")
    unmeant = [str(difference) for difference in found if not difference.is_meant]
    assert unmeant == []
    # What is meant and is not found any more does not belong in the table.
    for meant in twins.MEANT:
        assert [entry for entry in found if entry.step == meant.step and entry.is_meant], meant


def test_the_comparison_finds_what_one_side_lacks() -> None:
    message = {"method": "turn/started", "params": {"threadId": "t"}}
    one = twins.Record([("a step", {"a": [message, message], "b": []})])
    other = twins.Record([("a step", {"a": [message], "b": [message]})])
    found = twins.differences(one, other, (twins.Names(), twins.Names()))
    assert [(entry.client, entry.side) for entry in found] == [("a", "bare"), ("b", "hub")]


def test_what_is_meant_is_told() -> None:
    text = DOCS.read_text("utf-8")
    for meant in twins.MEANT:
        assert meant.reason in text
