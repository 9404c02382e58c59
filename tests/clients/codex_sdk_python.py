"""The vendor's Python SDK."""

from __future__ import annotations

from tests.clients.client import PyPIClient


class VendorPython(PyPIClient):
    """openai-codex, on its synchronous side."""

    name = "openai-codex"
    version = "0.163.0"
    attached = "`codexd attach` (`launch_args_override`), or `codexd-codex`"
    script = """
from openai_codex import Codex, CodexConfig

async def turns(codex):
    config = CodexConfig(launch_args_override=(codex, "app-server"), env=dict(os.environ))
    client = Codex(config)
    client.__enter__()
    thread = client.thread_start()
    turn = None
    while True:
        text = yield turn
        turn = asyncio.to_thread(lambda text=text: run(thread, text))

def run(thread, text):
    result = thread.run(text)
    return result.final_response or str(result.status)
"""
