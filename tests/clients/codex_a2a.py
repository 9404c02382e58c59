"""codex-a2a, of PyPI: codex as an agent of the A2A protocol."""

from __future__ import annotations

from tests.clients.client import PyPIClient


class CodexA2a(PyPIClient):
    """Its service, asked over HTTP as another agent asks it."""

    name = "codex-a2a"
    version = "1.4.0"
    attached = "`CODEX_CLI_BIN=codexd-codex`"
    script = """
import pathlib, socket, subprocess, urllib.error, urllib.request

def ask(url, body=None):
    headers = {"Authorization": "Bearer t", "A2A-Version": "1.0"}
    if body is not None:
        body = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise RuntimeError(error.read().decode()[:160]) from error

async def turns(codex):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    credential = {"id": "x", "scheme": "bearer", "token": "t", "principal": "automation"}
    database = pathlib.Path.cwd() / f"a2a-{port}.db"
    env = {
        **os.environ,
        "A2A_STATIC_AUTH_CREDENTIALS": json.dumps([credential]),
        "A2A_HOST": "127.0.0.1",
        "A2A_PORT": str(port),
        "A2A_PUBLIC_URL": url,
        "A2A_DATABASE_URL": f"sqlite+aiosqlite:///{database}",
        "CODEX_WORKSPACE_ROOT": os.getcwd(),
        "CODEX_CLI_BIN": codex,
    }
    command = [str(pathlib.Path(sys.executable).with_name("codex-a2a")), "serve"]
    service = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    for _ in range(300):
        try:
            await asyncio.to_thread(ask, url + "/.well-known/agent-card.json")
            break
        except OSError:
            await asyncio.sleep(0.1)
    context, turn = None, None
    try:
        while True:
            text = yield turn
            async def run(text=text):
                nonlocal context
                message = {"messageId": text, "role": "ROLE_USER", "parts": [{"text": text}]}
                if context:
                    message["contextId"] = context
                answer = await asyncio.to_thread(ask, url + "/message:send", {"message": message})
                task = answer.get("task") or answer.get("message")
                context = task.get("contextId")
                said = json.dumps(task.get("artifacts") or task)
                state = task.get("status", {}).get("state", "")
                return said if "FAILED" not in state else state
            turn = run()
    finally:
        service.terminate()
"""
