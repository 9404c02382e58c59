"""Headless Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import eventually

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium_path() -> str | None:
    """The browser, where there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class ScriptFailed(AssertionError):
    """What was to be evaluated has thrown."""


class Tab:
    """One tab. ``complaints`` are errors on its console, exceptions and what its policy refused."""

    def __init__(self, connection: ClientConnection, target: str) -> None:
        self._connection = connection
        self._target = target
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []
        self._session = ""
        attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._connection.send(json.dumps(message))
        while True:
            heard = json.loads(self._connection.recv(timeout=20))
            if heard.get("id") == number:
                if "error" in heard:
                    raise AssertionError(f"{method}: {heard['error']}")
                result: dict[str, Any] = heard["result"]
                return result
            self._hear(heard)

    def _hear(self, heard: dict[str, Any]) -> None:
        params = heard.get("params", {})
        if heard.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif heard.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
        elif heard.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(json.dumps(params["args"]))

    def close(self) -> None:
        """Nobody looks at it any more."""
        self._send("Target.closeTarget", targetId=self._target)

    def open(self, url: str) -> None:
        """Go there."""
        self._send("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        result = self._send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise ScriptFailed(str(details.get("exception", details).get("description", details)))
        return result["result"].get("value")

    def until(self, script: str, *, within_s: float = 20) -> Any:
        """The value of an expression, once it is true."""
        try:
            return eventually(lambda: self._value(script), within_s=within_s, what=script)
        except AssertionError as error:
            shown = self._value("document.body.innerText")
            raise AssertionError(f"{error}\n{self.complaints}\n{shown}") from error

    def _value(self, script: str) -> Any:
        # Between two documents there is nothing to ask.
        with contextlib.suppress(ScriptFailed):
            return self.evaluate(script)
        return None

    def press(self, key: str, code: int, *, modifiers: int = 0) -> None:
        """A key goes down and up; ``modifiers`` as the protocol has them (2: Ctrl, 8: Shift)."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        down = {"text": text} if text and not modifiers else {}
        self._send("Input.dispatchKeyEvent", type="keyDown", **common, **down)
        self._send("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """As from a keyboard, into what has the focus."""
        self._send("Input.insertText", text=text)

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """A window of this size, for somebody who likes it dark or light."""
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def cookies(self) -> list[dict[str, Any]]:
        """What the browser keeps, also what no script reads."""
        found: list[dict[str, Any]] = self._send("Network.getCookies")["cookies"]
        return found

    def screenshot(self, path: Path) -> None:
        """What is seen now."""
        data = self._send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def labels(self) -> list[tuple[str, str]]:
        """Role and name of each thing that a screen reader tells of."""
        nodes = self._send("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored")
        ]


class Browser:
    """One Chromium with a profile of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connections = contextlib.ExitStack()

    def tab(self) -> Tab:
        """A new tab."""
        connection = self._connections.enter_context(
            connect(self._url, max_size=None, ping_interval=None)
        )
        connection.send(
            json.dumps({"id": 0, "method": "Target.createTarget", "params": {"url": "about:blank"}})
        )
        while (heard := json.loads(connection.recv(timeout=20))).get("id") != 0:
            pass
        return Tab(connection, heard["result"]["targetId"])

    def hang_up(self) -> None:
        """Let go of all tabs."""
        self._connections.close()


@contextlib.contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """A browser that ends with the block, with all of its processes."""
    home = tempfile.mkdtemp(prefix="cr-", dir="/tmp")
    process = subprocess.Popen(
        [
            path,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--remote-debugging-port=0",
            f"--user-data-dir={home}",
            "about:blank",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": home, "TMPDIR": home},
        start_new_session=True,
    )
    browser = None
    try:
        told = Path(home, "DevToolsActivePort")
        eventually(
            lambda: told.exists() and len(told.read_text().split()) == 2,
            within_s=30,
            what="a browser",
        )
        port, path = told.read_text().split()
        browser = Browser(f"ws://127.0.0.1:{port}{path}")
        yield browser
    finally:
        if browser is not None:
            browser.hang_up()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 5
        while os.path.exists(home) and time.monotonic() < deadline:
            shutil.rmtree(home, ignore_errors=True)
