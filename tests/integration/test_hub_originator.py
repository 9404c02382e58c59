"""As whom the server speaks to the model's API: as its first client, whenever that comes."""

from __future__ import annotations

import json

import pytest

from tests.conftest import MakeBox
from tests.support.client import AppClient
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


def test_the_first_client_gives_its_name_however_late_it_comes(make_box: MakeBox) -> None:
    box = make_box()
    box.flags += ["--server-endpoint", f"unix://{box.root}/child.sock"]
    box.start()

    def knows_the_account() -> bool:
        return json.loads(box.run("status", "--json").stdout)["live"]["account"] is not None

    # Whether it is logged in is known before anybody has come.
    eventually(knows_the_account, what="the account")
    for name in ("first", "second"):
        client = AppClient(box.config.runtime.hub_socket_path, name)
        assert client.initialized["userAgent"].startswith("first/")
        thread = client.call("thread/start", {"cwd": "/"})["thread"]
        assert thread["originator"] == "first"
        client.close()
    assert len(box.events("child.ready")) == 1
    assert not box.events("link.lost")
    box.stop_cleanly()
