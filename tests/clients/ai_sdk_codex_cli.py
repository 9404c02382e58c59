"""ai-sdk-provider-codex-cli, of npm, in its app-server mode."""

from __future__ import annotations

from tests.clients.client import NpmClient


class AiSdkCodexCli(NpmClient):
    """Its model, asked as the AI SDK asks it."""

    name = "ai-sdk-provider-codex-cli"
    version = "2.2.1"
    remark = "one process for all its models"
    script = """
import { createCodexAppServer } from "ai-sdk-provider-codex-cli";

async function connect(codex) {
  const provider = createCodexAppServer({ defaultSettings: { codexPath: codex } });
  return async (text) => {
    const content = [{ type: "text", text }];
    const result = await provider("mock").doGenerate({ prompt: [{ role: "user", content }] });
    const said = result.content.filter((part) => part.type === "text").map((part) => part.text);
    return said.join("") || JSON.stringify(result.finishReason);
  };
}
"""
