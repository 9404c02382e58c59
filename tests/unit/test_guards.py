"""What makes codexd quick, held by counts: they are the same on every machine, and times are not.

Each bound is what is so now, or has little to spare: a slip fails here and not in front of a user.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec
import pytest

from codexd import encoding
from codexd.hub import jsonrpc
from codexd.hub.actions import Action, ToChild, ToClient
from tests.support.hub import HubRig
from tests.unit.test_trip import PACKAGE, Plugin, answer, ask, plugin_at, run, watched

# -- what is loaded ----------------------------------------------------------------------------

# What stands for a module that is postponed is not that module.
_TELL: Final = """
import json, sys
are = {name for name, module in sys.modules.items() if type(module).__name__ != "_Postponed"}
print(json.dumps(sorted(are)))
"""
# What circus itself brings.
_CIRCUS: Final = frozenset({"circus", "psutil", "tornado", "yaml", "zmq"})
_LATE: Final = (
    "http.client",
    "http.server",
    "jinja2",
    "prometheus_client",
    "rich",
    "urllib.request",
)


def loaded(code: str) -> set[str]:
    """The modules that a fresh Python has after ``code``."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{_TELL}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


def packages(modules: set[str]) -> set[str]:
    """Those of them that are not Python's own."""
    tops = {name.partition(".")[0] for name in modules}
    kept = {name for name in tops if name not in sys.stdlib_module_names}
    return {name for name in kept if not name.startswith("_") and "cython" not in name.lower()}


def rooms(modules: set[str]) -> set[str]:
    """The rooms of codexd that are in use."""
    return {name.split(".")[1] for name in modules if name.count(".") > 1 and "codexd" in name[:6]}


def test_what_the_plugin_loads_before_anybody_asks_for_more() -> None:
    modules = loaded(
        "import circus.plugins, codexd.circus_ext.plugin, codexd.circus_ext.circus_client\n"
        "import codexd.keeper.assembly"
    )
    own = {"codexd", "h11", "msgspec", "websockets"}
    assert packages(modules) - {"backports", "typing_extensions"} <= _CIRCUS | own
    assert not modules & {*_LATE, "click", "codexd.tls", "codexd.keeper.network"}
    assert not rooms(modules) & {"cli", "client", "rendering", "supervisor"}


def test_what_the_plugins_process_has_when_it_is_ready_to_begin() -> None:
    modules = loaded("import circus.plugins\nfrom codexd.circus_ext import plugin\nplugin._load()")
    assert "codexd.keeper.keeper" in modules
    # What a library asks for its version, and never uses.
    assert not modules & {"csv", "email.message", "importlib.metadata._adapters", "zipfile"}


def test_what_the_plugins_process_has_where_it_was_started_early() -> None:
    modules = loaded(
        "from codexd.circus_ext import early\nimport circus.plugins\n"
        "from codexd.circus_ext import plugin\nplugin._load()"
    )
    assert not modules & {"html.entities", "socketserver", "yaml.loader"}


def test_what_goes_before_the_plugins_process_is_the_command_alone() -> None:
    modules = loaded("import codexd.cli.main, codexd.cli.start, codexd.circus_ext.early")
    own = {"click", "codexd", "msgspec", "psutil"}
    assert packages(modules) - {"typing_extensions"} <= own
    assert "yaml.loader" not in modules
    assert rooms(modules) <= {"child", "circus_ext", "cli", "client", "platform", "store"}
    assert not modules & {*_LATE, "asyncio", "hashlib", "socketserver"}


def test_a_daemon_loads_nothing_for_what_it_does_not_render() -> None:
    modules = loaded("import codexd.cli.main, codexd.cli.start, codexd.supervisor.daemon")
    # circus.ini is rendered beside it.
    assert not modules & {"jinja2", "urllib.request"}
    assert rooms(modules) >= {"records", "circus_ext"}
    assert not {name for name in modules if name.startswith("codexd.rendering.")} - {
        "codexd.rendering.errors"
    }
    # What circus and tornado would load and nobody uses.
    assert not modules & {"html.entities", "socketserver", "yaml.loader"}


def test_circusd_loads_nothing_of_what_is_in_the_plugin() -> None:
    modules = loaded(
        "import circus.arbiter, codexd.circus_ext.run, codexd.circus_ext.plugin, "
        "codexd.circus_ext.hooks"
    )
    assert packages(modules) - {"backports", "typing_extensions"} <= _CIRCUS | {"codexd", "msgspec"}
    assert not rooms(modules) & {"api", "cli", "hub", "wire"}
    assert {name for name in modules if name.startswith("codexd.keeper.")} == {
        "codexd.keeper.circusd"
    }


# -- what is done with a message ------------------------------------------------------------------


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often JSON is read and written."""
    counts: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            counts[name] += 1
            return function(*given, **named)

        return call

    monkeypatch.setattr(jsonrpc, "_decode_fields", counted("taken apart", jsonrpc._decode_fields))
    monkeypatch.setattr(jsonrpc, "decode_text", counted("text", jsonrpc.decode_text))
    monkeypatch.setattr(jsonrpc, "_encode", counted("written", jsonrpc._encode))
    monkeypatch.setattr(encoding, "json_decoder", counted("part", encoding.json_decoder))
    monkeypatch.setattr(msgspec.json, "decode", counted("part", msgspec.json.decode))
    monkeypatch.setattr(msgspec.json, "encode", counted("written", msgspec.json.encode))
    return counts


def to_child(actions: list[Action]) -> bytes:
    (action,) = actions
    assert isinstance(action, ToChild)
    return action.data


def test_a_request_and_its_answer_are_taken_apart_once_each(work: Counter[str]) -> None:
    rig = HubRig()
    rig.connect(1)
    work.clear()
    sent = to_child(
        rig.hub.client_message(1, b'{"id":7,"method":"model/list","params":{}}', rig.now)
    )
    # The method; the message with the id of the hub's own.
    assert work == {"taken apart": 1, "text": 1, "written": 1}
    hub_id = sent[sent.index(b'"hub-') :].partition(b",")[0]
    work.clear()
    answer = b'{"id":' + hub_id + b',"result":{"data":[]}}'
    (back,) = rig.hub.child_message(answer, rig.now)
    assert back == ToClient(1, b'{"id":7,"result":{"data":[]}}')
    # The id; the message with the client's.
    assert work == {"taken apart": 1, "text": 1, "written": 1}


@pytest.mark.parametrize("listeners", [1, 20])
def test_a_delta_is_taken_apart_once_and_never_copied(listeners: int, work: Counter[str]) -> None:
    rig = HubRig()
    for client in range(1, listeners + 1):
        rig.connect(client)
        rig.say(client, {"id": 1, "method": "thread/resume", "params": {"threadId": "t"}})
        sent = rig.to_child[-1]
        rig.child({"id": sent["id"], "result": {"thread": {"id": "t"}}})
    params = {"threadId": "t", "turnId": "u", "itemId": "i", "delta": "word"}
    delta = json.dumps({"method": "item/agentMessage/delta", "params": params}).encode()
    work.clear()
    heard = rig.hub.child_message(delta, rig.now)
    assert [action.client for action in heard if isinstance(action, ToClient)] == list(
        range(1, listeners + 1)
    )
    assert all(isinstance(action, ToClient) and action.data is delta for action in heard)
    # Its method, and which thread it is of, however many listen.
    assert work == {"taken apart": 1, "text": 1, "part": 1}


# -- what a message costs in all -------------------------------------------------------------------

# System calls, and what asks the loop for something that it need not be asked for.
_COUNTED: Final = (
    *("write", "send", "sendmsg", "read", "pread", "splice", "ioctl", "fcntl", "urandom"),
    *("get_running_loop", "register", "modify", "unregister"),
)


class Costs:
    """What codexd calls, itself or through the event loop; and how many functions of its own."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.functions = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self.functions += frame.f_code.co_filename.startswith(PACKAGE)
        elif event == "c_call" and argument.__name__ in _COUNTED and self._is_ours(frame):
            self.calls[argument.__name__] += 1

    @staticmethod
    def _is_ours(frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_filename.startswith(PACKAGE):
                return True
            frame = frame.f_back
        return False


async def a_request_and_its_answer(plugin: Plugin, client: Any, number: int) -> None:
    await ask(client, number, "model/list")
    asked = await plugin.heard("model/list")
    plugin.say({"id": asked["id"], "result": {"data": []}})
    await answer(client, number)


@pytest.mark.skipif(sys.platform != "linux", reason="without splice(2) it is one more")
def test_a_request_and_its_answer_are_four_system_calls_and_no_detours(tmp_path: Path) -> None:
    async def main() -> None:
        async with plugin_at(tmp_path) as (plugin, client):
            await a_request_and_its_answer(plugin, client, 7)
            costs = Costs()
            with watched(costs):
                await a_request_and_its_answer(plugin, client, 8)
            # Beside them, what the loop does of itself: it waits twice, and reads the request.
            assert costs.calls == {"write": 1, "splice": 1, "pread": 1, "send": 1}
            # It is 72; without a bound every new idea adds a few.
            assert costs.functions <= 84

    run(main)


def test_what_both_processes_need_is_loaded_before_the_plugin_is_forked() -> None:
    before = "import codexd.cli.main, codexd.cli.start, codexd.circus_ext.early\n"
    forked = loaded(f"{before}import codexd.circus_ext.plugin")
    plugin = loaded(f"{before}from codexd.circus_ext import plugin\nplugin._load()")
    circusd = loaded(f"{before}import codexd.circus_ext.plugin, codexd.supervisor.daemon")
    both = {name for name in (plugin & circusd) - forked if not name.startswith("codexd")}
    assert both <= {"copy", "ntpath", "pathlib"}
    assert len((plugin & circusd) - forked) <= 12
    # What neither has, but for a TCP listener with a certificate.
    assert not (plugin | circusd) & {"_ssl", "_curses", "_lzma", "_bz2", "multiprocessing"}
