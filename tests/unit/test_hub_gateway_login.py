"""The sign-in at a provider's gateway belongs to the client that began it."""

from __future__ import annotations

from typing import Any

import pytest

from codexd.hub.gateway_login import CANCEL, CHANGED, LOGIN
from tests.support.hub import HubRig
from tests.support.schema import Schemas

CANCELLED = {"code": -32603, "message": "Gateway sign-in was canceled"}


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    for client in (1, 2):
        rig.connect(client)
    return rig


def begin(rig: HubRig, client: int = 1) -> Any:
    request = rig.ask(client, LOGIN)
    rig.tell(CHANGED, authUrl="http://sign/in", providerId="p", status="started", error=None)
    rig.tell(CHANGED, authUrl=None, providerId="p", status="started", error=None)
    return request


def urls(rig: HubRig, client: int) -> list[str | None]:
    return [told["params"]["authUrl"] for told in rig.got(client, CHANGED)]


def test_where_to_sign_in_is_told_to_who_began_it_alone(rig: HubRig) -> None:
    begin(rig)
    assert urls(rig, 1) == ["http://sign/in", None]
    assert urls(rig, 2) == [None]


def test_another_client_cannot_end_it(rig: HubRig) -> None:
    begin(rig)
    # Refused by the server, as one is in progress: it does not become that client's.
    late = rig.ask(2, LOGIN)
    rig.answer(LOGIN, error={"code": -32600, "message": "Gateway sign-in is already in progress"})
    assert "error" in rig.answers(2, late)[0]
    request = rig.ask(2, CANCEL)
    (refused,) = rig.answers(2, request)
    assert refused["error"]["message"] == "Gateway sign-in belongs to another connection"
    assert [asked for asked in rig.to_child if asked["method"] == CANCEL] == []
    request = rig.ask(1, CANCEL)
    rig.answer(CANCEL)
    assert "result" in rig.answers(1, request)[0]


def test_it_ends_with_the_client_that_began_it(rig: HubRig) -> None:
    begin(rig)
    rig.leave(2)
    assert [asked for asked in rig.to_child if asked["method"] == CANCEL] == []
    rig.connect(2)
    rig.leave(1)
    assert rig.asked(CANCEL)["params"] == {}
    # The next one may, and is not taken for the one that has left.
    begin(rig, client=2)
    assert urls(rig, 2)[-2:] == ["http://sign/in", None]


def test_one_that_is_over_belongs_to_nobody(rig: HubRig) -> None:
    begin(rig)
    rig.answer(LOGIN, error=CANCELLED)
    rig.ask(2, CANCEL)
    assert rig.asked(CANCEL)
    rig.to_child.clear()
    rig.leave(1)
    assert rig.to_child == []


def test_who_takes_no_word_of_it_cannot_begin_one(rig: HubRig) -> None:
    rig.connect(3, optOutNotificationMethods=[CHANGED])
    request = rig.ask(3, LOGIN)
    (refused,) = rig.answers(3, request)
    assert refused["error"]["message"] == f"Gateway login requires {CHANGED} notifications"


@pytest.mark.real
def test_a_server_that_dies_over_it_is_told_as_its_failure_once(
    rig: HubRig, schemas: Schemas
) -> None:
    request = begin(rig)
    rig.tell("account/updated", authMode=None, planType=None)
    rig.lose()
    rig.ready()
    assert "error" in rig.answers(1, request)[0]
    for client in (1, 2):
        told = rig.got(client, CHANGED)[-1]
        schemas.check(told, None)
        assert (told["params"]["status"], told["params"]["providerId"]) == ("failed", "p")
        assert told["params"]["error"]
    before = len(rig.got(1, CHANGED))
    rig.tell(CHANGED, authUrl=None, providerId="p", status="succeeded", error=None)
    rig.lose()
    rig.ready()
    assert len(rig.got(1, CHANGED)) == before + 1
