"""@agentclientprotocol/codex-acp: how editors such as Zed drive codex."""

from __future__ import annotations

from tests.clients.client import NpmClient


class CodexAcp(NpmClient):
    """The adapter, driven as an editor drives it: ACP over its stdin and stdout."""

    name = "@agentclientprotocol/codex-acp"
    version = "2.6.0"
    attached = "`CODEX_PATH=codexd-codex`"
    script = """
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

async function connect(codex) {
  const adapter = "node_modules/@agentclientprotocol/codex-acp/dist/index.js";
  const env = { ...process.env, CODEX_PATH: codex, NO_BROWSER: "1", MODEL_PROVIDER: "mock" };
  const path = new URL(adapter, import.meta.url).pathname;
  const stdio = ["pipe", "pipe", "inherit"];
  const agent = spawn(process.execPath, [path], { env, stdio });
  const waiting = new Map();
  let said = "", count = 0;
  const send = (message) =>
    agent.stdin.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\\n");
  const ask = (method, params) => new Promise((resolve, reject) => {
    waiting.set(++count, { resolve, reject });
    send({ id: count, method, params });
  });
  agent.on("exit", () => waiting.forEach(({ reject }) => reject(new Error("codex-acp ended"))));
  createInterface({ input: agent.stdout }).on("line", (line) => {
    const message = JSON.parse(line);
    const update = message.params?.update;
    if (update?.sessionUpdate === "agent_message_chunk") said += update.content.text ?? "";
    if (message.method && message.id !== undefined)
      send({ id: message.id, error: { code: -32601, message: "not here" } });
    if (message.method || !waiting.has(message.id)) return;
    const { resolve, reject } = waiting.get(message.id);
    waiting.delete(message.id);
    message.error ? reject(new Error(JSON.stringify(message.error))) : resolve(message.result);
  });
  await ask("initialize", { protocolVersion: 1, clientCapabilities: {} });
  const { sessionId } = await ask("session/new", { cwd: process.cwd(), mcpServers: [] });
  return async (text) => {
    said = "";
    const result = await ask("session/prompt", { sessionId, prompt: [{ type: "text", text }] });
    return result.stopReason === "end_turn" ? said : result.stopReason;
  };
}
"""
