"""ai-sdk-provider-codex-app-server, of npm."""

from __future__ import annotations

from tests.clients.client import NpmClient


class AiSdkAppServer(NpmClient):
    """Its model, asked as the AI SDK asks it."""

    name = "ai-sdk-provider-codex-app-server"
    version = "1.1.7"
    remark = "where no text has come, the error is its text"
    script = """
import { createCodexAppServer } from "ai-sdk-provider-codex-app-server";

async function connect(codex) {
  const provider = createCodexAppServer({ defaultSettings: { codexPath: codex, logger: false } });
  const model = provider("mock");
  return async (text) => {
    const content = [{ type: "text", text }];
    const result = await model.doGenerate({ prompt: [{ role: "user", content }] });
    const said = result.content.filter((part) => part.type === "text").map((part) => part.text);
    return said.join("") || JSON.stringify(result.finishReason);
  };
}
"""
