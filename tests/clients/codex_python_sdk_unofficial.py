"""codex-python-sdk-unofficial, of PyPI."""

from __future__ import annotations

from tests.clients.client import PyPIClient


class UnofficialSdk(PyPIClient):
    """Its stateful client."""

    name = "codex-python-sdk-unofficial"
    version = "0.128.0"
    script = """
from codex_agent_sdk import CodexSDKClient
from codex_agent_sdk.options import AppServerConfig

async def turns(codex):
    client = CodexSDKClient(app_server=AppServerConfig(codex_bin=codex))
    await client.__aenter__()
    await client.start_thread()
    turn = None
    while True:
        text = yield turn
        async def run(text=text):
            handle = await client.query(text)
            result = await handle.wait()
            return result.assistant_text or str(result.turn_status)
        turn = run()
"""
