"""What `/v1/status` tells, with the parts that know it played."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from codexd.keeper.status import Status
from codexd.records.records import open_records
from codexd.runtime import make_directories
from tests.support.memory import config_at


def test_the_document_is_that_of_the_command_and_what_the_hub_tells(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    make_directories(config.paths, config.runtime)
    connector = SimpleNamespace(last_heard=0.0, is_ready=True)
    unserved: list[dict[str, str]] = []

    async def main() -> None:
        with open_records(config, timeout_s=0) as records:
            records.recorder.daemon_started(os.getpid(), config.server)
            status = Status(
                config,
                records,
                cast("Any", SimpleNamespace(is_usable=True, snapshot=lambda: {"clients": 3})),
                cast("Any", connector),
                cast("Any", SimpleNamespace(misses=2)),
                cast("Any", SimpleNamespace(status=lambda: {"loggedIn": True})),
                lambda: unserved,
            )

            def told() -> dict[str, Any]:
                return cast("dict[str, Any]", msgspec.to_builtins(status.document()))

            document = told()
            # As `codexd status --json` has them, then what the hub told before, at the top as well.
            assert {"config", "identity", "daemon", "sessionRegistry", "recentEvents", "live"} <= (
                set(document)
            )
            assert {name: document[name] for name in document["hub"]} == document["hub"]
            assert document["hub"] == document["live"]["hub"]
            assert document["hub"]["health"] == {"lastAnswerAt": None, "misses": 2}
            assert (document["clients"], document["ready"]) == (3, True)
            assert document["account"] == {"loggedIn": True}
            assert document["daemon"]["started"]
            assert document["recentEvents"]["events"][-1]["type"] == "daemon.started"
            assert document["live"]["childAlive"] is False

            connector.last_heard = asyncio.get_running_loop().time()
            connector.is_ready = False
            unserved.append({"path": "/x", "reason": "taken"})
            document = told()
            assert document["health"]["lastAnswerAt"].endswith("Z")
            # What an earlier server said of its account is not that of the next.
            assert document["account"] is None
            assert document["unservedSockets"] == unserved

    asyncio.run(main())
