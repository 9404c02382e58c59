"""codex-sdk-python, of PyPI: its client of the app-server."""

from __future__ import annotations

from tests.clients.client import PyPIClient


class VectorfySdk(PyPIClient):
    """AppServerClient with its turn sessions."""

    name = "codex-sdk-python"
    version = "0.117.0"
    script = """
from codex_sdk import AppServerClient, AppServerOptions

async def turns(codex):
    client = AppServerClient(AppServerOptions(codex_path_override=codex))
    await client.__aenter__()
    thread = (await client.thread_start())["thread"]["id"]
    turn = None
    while True:
        text = yield turn
        async def run(text=text):
            session = await client.turn_session(thread, text)
            said = ""
            async for told in session.notifications():
                if told.method == "item/agentMessage/delta":
                    said += told.params["delta"]
            last = await session.wait()
            status = str((last or {}).get("status"))
            return said if status == "completed" else status
        turn = run()
"""
