"""What a thread was opened with, and what clients have set, outlives the plugin and the server."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from codexd.hub.kept import Kept, KeptHandle, KeptLogin, KeptSetting
from codexd.keeper.kept_threads import FILE, KeptThreads
from tests.support.hub import HubRig

CONFIG = {"mcp_servers": {"x": {"command": "y"}}}


def _next_hub(before: HubRig, kept: Kept) -> HubRig:
    rig = HubRig(ready=False)
    rig.do(rig.hub.restore(list(before.sessions.values()), 0, kept))
    return rig


def test_config_is_given_again_where_the_client_resumed_without_it(tmp_path: Path) -> None:
    first = HubRig()
    first.connect(1)
    first.ask(1, "thread/start", {"cwd": "/w", "config": CONFIG})
    first.answer("thread/start", {"thread": {"id": "t1"}})
    first.run_turn(1)
    first.end_turn()
    KeptThreads(str(tmp_path)).save(first.hub.kept)
    # The plugin dies; the server lives, and its client resumes without the config.
    second = _next_hub(first, KeptThreads(str(tmp_path)).load())
    second.ready("t1", same_child=True)
    second.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    second.connect(1)
    second.join_thread(1)
    # Then the server dies.
    second.lose()
    second.ready()
    assert second.asked("thread/resume")["params"]["config"] == CONFIG


def test_a_thread_without_a_turn_comes_back_with_all_it_was_opened_with(tmp_path: Path) -> None:
    first = HubRig()
    first.connect(1)
    first.ask(1, "thread/start", {"cwd": "/w", "model": "m", "config": CONFIG})
    first.answer("thread/start", {"thread": {"id": "t1"}})
    KeptThreads(str(tmp_path)).save(first.hub.kept)
    second = _next_hub(first, KeptThreads(str(tmp_path)).load())
    second.ready("t1", same_child=True)
    second.answer("thread/resume", {"thread": {"id": "t1"}})
    second.connect(1)
    second.join_thread(1)
    second.lose()
    second.ready()
    params = second.asked("thread/resume")["params"]
    assert (params["cwd"], params["model"], params["config"]) == ("/w", "m", CONFIG)


def test_what_is_over_is_not_kept() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.ask(1, "thread/start", {"config": CONFIG})
    rig.answer("thread/start", {"thread": {"id": "t1"}})
    assert rig.hub.kept != Kept()
    rig.tell("thread/closed", threadId="t1")
    assert rig.hub.kept == Kept()


@pytest.mark.parametrize("text", ["", "[]", '{"threads":7}', "\x00"])
def test_a_file_that_is_none_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert KeptThreads(str(tmp_path)).load() == Kept()


def test_it_is_private_and_tried_again_when_it_could_not_be_written(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.write_text("in the way")
    kept = KeptThreads(str(place))
    what = Kept({"t1": {"config": CONFIG}})
    kept.save(what)
    place.unlink()
    place.mkdir()
    kept.save(what)
    assert stat.S_IMODE((place / FILE).stat().st_mode) == 0o600
    assert KeptThreads(str(place)).load() == what


def test_bad_values_of_one_thread_do_not_hurt() -> None:
    before = HubRig()
    before.connect(1)
    before.open_thread(1)
    kept = Kept(
        {"t1": {"config": 7, "opening": [], "settings": "x"}},
        [KeptSetting("no/such", {}, 1)],
        [KeptLogin("no/such")],
        [KeptHandle("no/such", "x")],
    )
    rig = _next_hub(before, kept)
    rig.ready()
    assert rig.hub.server == "up"


def _sets_and_begins() -> HubRig:
    rig = HubRig()
    rig.connect(1)
    for number in range(2):
        rig.ask(1, "environment/add", {"environmentId": str(number)})
        rig.answer("environment/add")
    rig.ask(1, "account/login/start", {"type": "chatgpt"})
    rig.answer("account/login/start", {"type": "chatgpt", "loginId": "l"})
    rig.ask(1, "fs/watch", {"watchId": "w", "path": "/a"})
    rig.answer("fs/watch")
    rig.ask(1, "process/spawn", {"processHandle": "p", "command": ["sleep"]})
    rig.answer("process/spawn")
    return rig


def test_what_clients_have_set_for_the_process_is_set_again_by_the_next_hub(
    tmp_path: Path,
) -> None:
    first = _sets_and_begins()
    KeptThreads(str(tmp_path)).save(first.hub.kept)
    second = _next_hub(first, KeptThreads(str(tmp_path)).load())
    second.ready(same_child=True)
    # This server has it.
    assert all(entry["method"] != "environment/add" for entry in second.to_child)
    second.connect(1)
    second.lose()
    # A login that was in progress is told as failed, though its hub has gone.
    second.to_child.clear()
    second.ready()
    (told,) = second.got(1, "account/login/completed")
    assert (told["params"]["loginId"], told["params"]["success"]) == ("l", False)
    for number in range(2):
        assert second.asked("environment/add")["params"] == {"environmentId": str(number)}
        second.answer("environment/add", error={"code": -32600, "message": "no"})
    # Nobody knows any more who has set it.
    assert len(second.got(1, "warning")) == 2
    assert second.hub.server == "up"


@pytest.mark.parametrize("same_child", [True, False])
def test_what_clients_of_an_earlier_hub_had_open_is_let_go(*, same_child: bool) -> None:
    first = _sets_and_begins()
    opened = {entry["method"]: entry["params"] for entry in first.to_child}
    second = _next_hub(first, first.hub.kept)
    second.ready(same_child=same_child)
    released = [
        (entry["method"], entry["params"])
        for entry in second.to_child
        if entry["method"] in ("fs/unwatch", "process/kill")
    ]
    handles = [
        ("fs/unwatch", {"watchId": opened["fs/watch"]["watchId"]}),
        ("process/kill", {"processHandle": opened["process/spawn"]["processHandle"]}),
    ]
    assert released == (handles if same_child else [])
