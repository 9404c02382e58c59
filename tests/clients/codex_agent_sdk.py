"""codex-agent-sdk, of PyPI."""

from __future__ import annotations

from tests.clients.client import PyPIClient


class AgentSdk(PyPIClient):
    """Its agent, which starts a server for every run."""

    name = "codex-agent-sdk"
    version = "0.0.2"
    remark = "starts a server, or joins, for each run"
    script = """
from codex_agent_sdk import Agent

async def turns(codex):
    agent = Agent(model="mock", codex_path=codex)
    turn = None
    while True:
        text = yield turn
        turn = agent.run(text).text()
"""
