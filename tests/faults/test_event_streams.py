"""A stream of events through deaths of the plugin and of the daemon, and through rotation."""

from __future__ import annotations

from tests.conftest import MakeBox
from tests.support.api_client import Api, Follower
from tests.support.client import AppClient
from tests.support.daemon import DaemonBox
from tests.support.memory import log_bytes
from tests.support.stub import stub_flags
from tests.support.waiting import eventually

LOG = ["--log-max-bytes=2000", "--log-backups=99"]


def come_and_go(path: str, times: int) -> None:
    """Two events each."""
    for _ in range(times):
        AppClient(path).close()


def newest(box: DaemonBox) -> int:
    """How many events there are in the log."""
    return log_bytes(box.logs_dir / "events.jsonl").count(b"\n")


def test_whoever_comes_back_misses_nothing_and_hears_nothing_twice(make_box: MakeBox) -> None:
    box = make_box(*stub_flags(), *LOG)
    box.start()
    path = box.config.runtime.hub_socket_path
    follower = Follower(path)
    try:
        come_and_go(path, 10)
        plugin = box.plugin()
        plugin.kill()
        eventually(lambda: follower.connected == 2, what="the stream of another plugin")
        come_and_go(path, 10)
        assert box.stop() == 0
        box.start()
        come_and_go(path, 5)
        eventually(lambda: follower.connected == 3, what="the stream of another daemon")
        count = newest(box)
        eventually(lambda: len(follower.seqs) >= count, what=f"{count} events")
        assert follower.seqs[:count] == list(range(1, count + 1))
        assert (box.logs_dir / "events.jsonl.2").exists()
        pages = Api(path).get(f"/v1/events?limit={count}")
        assert [event["seq"] for event in pages["events"]] == list(range(1, count + 1))
    finally:
        follower.close()
