"""What a thread was opened with outlives the plugin, and then the server."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from codexd.keeper.kept_threads import FILE, KeptThreads
from tests.support.hub import HubRig

CONFIG = {"mcp_servers": {"x": {"command": "y"}}}


def _next_hub(before: HubRig, kept: dict[str, dict[str, Any]]) -> HubRig:
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
    assert rig.hub.kept
    rig.tell("thread/closed", threadId="t1")
    assert rig.hub.kept == {}


@pytest.mark.parametrize("text", ["", "[]", '{"t1":7}', "\x00"])
def test_a_file_that_is_none_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert KeptThreads(str(tmp_path)).load() == {}


def test_it_is_private_and_tried_again_when_it_could_not_be_written(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.write_text("in the way")
    kept = KeptThreads(str(place))
    kept.save({"t1": {"config": CONFIG}})
    place.unlink()
    place.mkdir()
    kept.save({"t1": {"config": CONFIG}})
    assert stat.S_IMODE((place / FILE).stat().st_mode) == 0o600
    assert KeptThreads(str(place)).load() == {"t1": {"config": CONFIG}}


def test_bad_values_of_one_thread_do_not_hurt() -> None:
    before = HubRig()
    before.connect(1)
    before.open_thread(1)
    rig = _next_hub(before, {"t1": {"config": 7, "opening": [], "settings": "x"}})
    rig.ready()
    assert rig.hub.server == "up"
