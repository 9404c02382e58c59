"""codex-app-server-client, of PyPI."""

from __future__ import annotations

from tests.clients.client import PyPIClient


class AppServerClient(PyPIClient):
    """Its asynchronous client."""

    name = "codex-app-server-client"
    version = "0.1.0"
    script = """
from codex_app_server_client import CodexAppServer

async def turns(codex):
    client = CodexAppServer(codex_bin=codex)
    await client.__aenter__()
    thread = await client.start_thread()
    turn = None
    while True:
        text = yield turn
        async def run(text=text):
            result = await thread.run(text)
            return result.final_response or f"({result.status})"
        turn = run()
"""
