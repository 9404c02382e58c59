"""As whom codexd introduces itself."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from codexd.hub.introduction import Capabilities, ClientInfo
from codexd.keeper.introduction import FILE, Introduction
from tests.support.hub import HubRig

FIRST, SECOND = ClientInfo("first", "1", "The First"), ClientInfo("second", "2")
FORMS = Capabilities(extensions={"openai/form": msgspec.Raw(b"{}")})
ATTESTS = Capabilities(request_attestation=True, experimental_api=True)


def _params(introduction: Introduction, *present: Capabilities) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(
        msgspec.json.encode(introduction.params(present))
    )
    return found


def test_nobody_known_is_codexd(tmp_path: Path) -> None:
    params = _params(Introduction(str(tmp_path), None))
    assert params["clientInfo"]["name"] == "codexd"
    assert params["capabilities"] == {"experimentalApi": True}


def test_the_first_client_gives_the_name_for_good(tmp_path: Path) -> None:
    introduction = Introduction(str(tmp_path), None)
    data = introduction.came(FIRST, Capabilities())
    assert data is not None
    introduction.save(data)
    assert introduction.came(SECOND, Capabilities()) is None
    later = Introduction(str(tmp_path), None)
    info = {"name": "first", "version": "1", "title": "The First"}
    assert _params(introduction)["clientInfo"] == _params(later)["clientInfo"] == info


def test_who_only_asks_over_http_gives_no_name(tmp_path: Path) -> None:
    introduction = Introduction(str(tmp_path), None)
    assert introduction.came(ClientInfo("codexd_http", "1"), Capabilities()) is None
    assert _params(introduction)["clientInfo"]["name"] == "codexd"
    introduction.came(FIRST, Capabilities())
    assert _params(introduction)["clientInfo"]["name"] == "first"


def test_a_configured_name_counts_before_it(tmp_path: Path) -> None:
    introduction = Introduction(str(tmp_path), "mine")
    introduction.came(FIRST, Capabilities())
    assert _params(introduction)["clientInfo"]["name"] == "mine"


def test_what_is_there_is_announced_and_forms_are_remembered(tmp_path: Path) -> None:
    introduction = Introduction(str(tmp_path), None)
    introduction.came(FIRST, ATTESTS)
    data = introduction.came(SECOND, FORMS)
    assert data is not None
    introduction.save(data)
    later = Introduction(str(tmp_path), None)
    forms = {"experimentalApi": True, "extensions": {"openai/form": {}}}
    assert _params(later)["capabilities"] == forms
    assert _params(later, ATTESTS)["capabilities"] == {**forms, "requestAttestation": True}


@pytest.mark.parametrize("text", ["", "[]", '{"clientInfo":7}', "\x00"])
def test_a_file_that_is_none_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert _params(Introduction(str(tmp_path), None))["clientInfo"]["name"] == "codexd"


def test_a_disk_that_is_full_costs_the_memory_only(tmp_path: Path) -> None:
    introduction = Introduction(str(tmp_path / "file" / "below"), None)
    (tmp_path / "file").write_text("in the way")
    data = introduction.came(FIRST, Capabilities())
    assert data is not None
    introduction.save(data)
    assert _params(introduction)["clientInfo"]["name"] == "first"


def test_a_hub_is_unused_until_a_client_has_said_who_it_is() -> None:
    rig = HubRig()
    assert rig.hub.is_unused
    rig.do(rig.hub.client_opened(9, 0))
    assert rig.hub.is_unused
    rig.connect(1)
    assert not rig.hub.is_unused
    assert [entry.info.name for entry in rig.introductions] == ["c1"]
    rig.ask(1, "skills/extraRoots/set", {"extraRoots": ["/x"]})
    rig.answer("skills/extraRoots/set", {})
    rig.leave(1)
    # The next child is to be told of them.
    assert not rig.hub.is_unused


def test_a_client_is_answered_once_the_child_knows_with_whom_it_speaks() -> None:
    rig = HubRig(ready=False)
    rig.do(rig.hub.child_ready(None, 0, same_child=False, child_pid=1))
    refused = {"error": {"code": -32600, "message": "Not initialized"}}
    rig.child({"id": rig.asked("thread/loaded/list")["id"], **refused})
    assert rig.hub.server == "up"
    rig.connect(1)
    assert rig.to_client[1] == []
    rig.tell("configWarning", summary="x")
    rig.do(rig.hub.introduced(b'{"userAgent":"c1/1"}', 0))
    assert rig.to_client[1][0] == {"id": 0, "result": {"userAgent": "c1/1"}}
    assert [entry["method"] for entry in rig.to_client[1][1:]] == ["configWarning"]
