"""A model in a process of its own, which answers "N deltas" with so many, all at once.

``python -m tests.benchmarks.model_process``; prints its port.
"""

from __future__ import annotations

import json
import re
import signal

from tests.support.model import ModelServer, Reply

_DELTA = "x" * 20


def _reply(model: ModelServer) -> Reply:
    asked = re.findall(r"(\d+) deltas", json.dumps(model.requests[-1].get("input", "")))
    return Reply(deltas=[_DELTA] * (int(asked[-1]) if asked else 1))


def main() -> None:
    """Answer until killed."""
    model = ModelServer(lambda: _reply(model), at_once=True)
    print(model.port, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
