"""codex-app-server-sdk, of PyPI."""

from __future__ import annotations

from tests.clients.client import PyPIClient


class AppServerSdk(PyPIClient):
    """Its client over stdio."""

    name = "codex-app-server-sdk"
    version = "0.4.1"
    python = "3.12"
    script = """
from codex_app_server_sdk import CodexClient

async def turns(codex):
    client = CodexClient.connect_stdio(command=[codex, "app-server"])
    await client.start()
    await client.initialize()
    thread = None
    turn = None
    while True:
        text = yield turn
        async def run(text=text):
            nonlocal thread
            result = await client.chat_once(text, thread_id=thread)
            thread = result.thread_id
            return result.final_text
        turn = run()
"""
