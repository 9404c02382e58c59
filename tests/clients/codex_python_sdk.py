"""codex-python-sdk, of PyPI."""

from __future__ import annotations

from tests.clients.client import PyPIClient


class PythonSdk(PyPIClient):
    """Its asynchronous client."""

    name = "codex-python-sdk"
    version = "0.2.1"
    script = """
from codex_python_sdk import create_async_client

async def turns(codex):
    client = create_async_client(codex_command=codex)
    await client.connect()
    thread = None
    turn = None
    while True:
        text = yield turn
        async def run(text=text):
            nonlocal thread
            result = await client.responses_create(prompt=text, thread_id=thread)
            thread = result.thread_id
            return result.text
        turn = run()
"""
