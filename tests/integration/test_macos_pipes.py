"""A whole daemon that waits for its server's output as on macOS: select(2) in a thread."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import pytest

from tests.conftest import MakeBox
from tests.support.codex import RawClient

AS_ON_MACOS = """
import types
import codexd.platform.pipe_watch as pipe_watch
pipe_watch.sys = types.SimpleNamespace(platform="darwin")
# The way of Linux is not there to be taken.
pipe_watch._LoopWatch = None
"""


@pytest.mark.real
def test_answers_logs_and_restarts_are_as_ever(make_box: MakeBox) -> None:
    box = make_box()
    (box.root / "sitecustomize.py").write_text(AS_ON_MACOS)
    box.env["PYTHONPATH"] = str(box.root)
    box.start()
    first = box.wait_ready()
    with contextlib.closing(RawClient(box.config.runtime.hub_socket_path)) as client:
        client.initialize()
        answer = client.ask("model/list", {})
        assert len(json.dumps(answer)) > 8192
        os.kill(first["pid"], signal.SIGKILL)
        box.wait_ready(other_than=first["pid"])
        again = client.ask("model/list", {})
        assert again["result"] == answer["result"]
    box.wait_quiet()
    box.stop_cleanly()
