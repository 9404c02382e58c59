"""codexed, of PyPI."""

from __future__ import annotations

from tests.clients.client import PyPIClient


class Codexed(PyPIClient):
    """Its client, with a session's stream of turns."""

    name = "codexed"
    version = "1.2.2"
    python = "3.13"
    script = """
from codexed import CodexClient

async def turns(codex):
    client = CodexClient(codex_command=codex)
    await client.__aenter__()
    session = await client.thread_start(cwd=os.getcwd())
    turn = None
    while True:
        text = yield turn
        async def run(text=text):
            said = ""
            async for event in session.turn_stream(text):
                kind = type(event).__name__
                if kind == "ItemAgentMessageDeltaNotification":
                    said += event.params.delta
                if kind == "TurnCompletedMessage" and event.params.turn.status != "completed":
                    return str(event.params.turn.status)
            return said
        turn = run()
"""
