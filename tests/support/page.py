"""The page of a daemon, as a program that acts like a browser asks for it, and in a real one."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from tests.support.browser import Tab
from tests.support.http import ask
from tests.support.hub_room import HubRoom

LIVE = "document.getElementById('link').dataset.state === 'live'"
APPROVAL_WAITS = "document.querySelectorAll('#approvals-list button').length > 0"


def dashboard(room: HubRoom) -> str:
    """The address that `codexd dashboard` prints."""
    done = room.box.run("dashboard")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def new_url(room: HubRoom) -> str:
    """The same, without the command."""
    made = ask(room.box.config.runtime.hub_socket_path, "POST", "/v1/page/codes").document
    return f"{made['url']}#code={made['code']}"


def text_of(tab: Tab, name: str) -> str:
    """What stands in an element."""
    return str(tab.evaluate(f"document.getElementById('{name}').innerText"))


def run_prompt(tab: Tab, text: str) -> None:
    """Type a prompt, and run it from the keyboard."""
    tab.evaluate("document.getElementById('prompt-text').focus()")
    tab.type(text)
    tab.press("Enter", 13, modifiers=2)


class Visitor:
    """What a browser sends; ``headers`` go with every request."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.code = parts.fragment.removeprefix("code=")
        self.host = parts.netloc
        self.headers: dict[str, str] = {}

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str | None
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body; a header that is None is not sent."""
        connection = http.client.HTTPConnection(self.host, timeout=20)
        try:
            data = None if body is None else json.dumps(body)
            given = {**self.headers, **headers}
            sent = {k.replace("_", "-"): v for k, v in given.items() if v is not None}
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            raw = response.read()
            told = {name.lower(): value for name, value in response.getheaders()}
            is_json = "json" in told.get("content-type", "")
            return response.status, told, json.loads(raw) if is_json else raw
        finally:
            connection.close()

    def log_in(self) -> tuple[int, dict[str, str], Any]:
        """Use the code."""
        self.headers = {"Origin": f"http://{self.host}", "Codexd_Page": "none"}
        status, told, document = self.ask("POST", "/v1/page/sessions", {"code": self.code})
        if status == 201:
            self.headers["Codexd_Page"] = document["key"]
            self.headers["Cookie"] = told["set-cookie"].partition(";")[0]
        return status, told, document
