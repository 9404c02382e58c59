"""The vendor's TypeScript SDK."""

from __future__ import annotations

from tests.clients.client import NpmClient


class VendorTypeScript(NpmClient):
    """@openai/codex-sdk: a process of `codex exec` for each turn."""

    name = "@openai/codex-sdk"
    version = "0.163.0"
    attached = ""
    remark = (
        "speaks to a `codex exec` for each turn, not to an app-server: codexd has no part in it"
    )
    script = """
import { Codex } from "@openai/codex-sdk";

async function connect(codex) {
  const client = new Codex({ codexPathOverride: codex });
  const thread = client.startThread({ skipGitRepoCheck: true });
  return async (text) => (await thread.run(text)).finalResponse;
}
"""
