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


BEGUN = {"method": "turn/started", "params": {"threadId": "t"}}
OVER = {"method": "turn/completed", "params": {"threadId": "t"}}
ANSWER = {"id": 1, "result": {}}


@pytest.mark.parametrize(
    ("bare", "hub", "found"),
    [
        # By step: what one client got.
        ([[BEGUN, BEGUN]], [[BEGUN]], [("1", "bare")]),
        ([[]], [[OVER]], [("1", "hub")]),
        # What comes in another step is late, and no excuse.
        ([[BEGUN], []], [[], [BEGUN]], [("1", "bare"), ("2", "hub")]),
        ([[BEGUN, OVER]], [[OVER, BEGUN]], [("1", "moved")]),
        # The server answers before or after what it tells meanwhile.
        ([[ANSWER, BEGUN]], [[BEGUN, ANSWER]], []),
    ],
)
def test_the_comparison_finds_what_differs(
    bare: list[list[twins.Message]],
    hub: list[list[twins.Message]],
    found: list[tuple[str, str]],
) -> None:
    one, other = (
        twins.Record([(str(n), {"a": got}) for n, got in enumerate(side, 1)])
        for side in (bare, hub)
    )
    got = twins.differences(one, other, (twins.Names(), twins.Names()))
    assert [(entry.step, entry.side) for entry in got] == found


def test_ids_are_named_by_what_is_said_of_them() -> None:
    one, two = "0198f0a0-0000-7000-8000-000000000001", "0198f0a0-0000-7000-8000-000000000002"
    said = [{"first": one}, {"second": two}]
    there, here = twins.Names(), twins.Names()
    there.meet(said)
    here.meet(said[::-1])
    assert [there.plain(entry) for entry in said] == [here.plain(entry) for entry in said]


def test_what_is_meant_is_told() -> None:
    text = DOCS.read_text("utf-8")
    for meant in twins.MEANT:
        assert meant.reason in text
