"""What a turn over HTTP takes longer than the same turn over WebSocket.

``python -m tests.benchmarks.bench_turn``

Both on one daemon with a model of this process, in turn, each on a thread of its own that it keeps.
"""

from __future__ import annotations

import argparse
import statistics
import time

from tests.support.client import AppClient
from tests.support.http import ask
from tests.support.hub_room import HubRoom
from tests.support.schema import Schemas


def _over_websocket(client: AppClient, thread_id: str) -> float:
    begun = time.perf_counter()
    turn_id = client.start_turn(thread_id)
    while client.notification("turn/completed", threadId=thread_id)["turn"]["id"] != turn_id:
        pass
    return time.perf_counter() - begun


def _over_http(path: str, thread_id: str) -> float:
    begun = time.perf_counter()
    reply = ask(path, "POST", f"/v1/threads/{thread_id}/turns?wait=30", {"input": "hi"})
    assert reply.document["status"] == "completed", reply.body
    return time.perf_counter() - begun


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=40)
    turns = parser.parse_args().turns
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as place:
        room = HubRoom(Schemas(Path(place)))
        try:
            path = room.box.config.runtime.hub_socket_path
            client = AppClient(path)
            thread = client.start_thread()
            made = ask(path, "POST", "/v1/threads", {"cwd": str(room.root)}).document
            websocket, http = [], []
            for _ in range(turns):
                websocket.append(_over_websocket(client, thread))
                http.append(_over_http(path, made["threadId"]))
            client.close()
        finally:
            room.close()
    one, two = statistics.median(websocket), statistics.median(http)
    print(f"{turns} turns: WebSocket {one * 1000:.1f} ms, HTTP {two * 1000:.1f} ms (medians)")
    print(f"HTTP takes {(two - one) * 1000:.1f} ms longer")


if __name__ == "__main__":
    main()
