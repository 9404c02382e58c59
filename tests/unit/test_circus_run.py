"""What circus would do at its start, and is kept from."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from codexd.circus_ext.run import _load

INI = """
[circus]
endpoint = ipc://{0}/circus.sock
pubsub_endpoint = ipc://{0}/events.sock
multicast_endpoint =
"""


def test_nobody_is_asked_for_the_name_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(name: str = "") -> str:
        raise AssertionError(f"the DNS is asked for {name}, and may not answer")

    monkeypatch.setattr(socket, "getfqdn", look_up)
    ini = tmp_path / "circus.ini"
    ini.write_text(INI.format(tmp_path))
    arbiter = _load(str(ini))
    assert arbiter.fqdn == socket.gethostname()
    # For everybody else it is what it was.
    assert socket.getfqdn is look_up
