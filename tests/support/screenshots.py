"""Takes the pictures of the page for the docs: `python -m tests.support.screenshots`."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.browser import Tab, chromium, chromium_path
from tests.support.hub_room import HubRoom
from tests.support.model import Reply
from tests.support.page import APPROVAL_WAITS, LIVE, new_url, run_prompt
from tests.support.schema import Schemas

PLACE = Path(__file__).resolve().parents[2] / "docs/images"
# Name, width and height, and whether somebody likes it dark.
PICTURES = (
    ("page-light.png", 1180, 800, False),
    ("page-dark.png", 1180, 800, True),
    ("page-narrow.png", 360, 740, True),
)
ENDED = "document.getElementById('run-state').textContent.includes('completed')"
CALL = (
    "exec_command",
    {
        "cmd": "rm -rf build && make test",
        "login": False,
        "sandbox_permissions": "require_escalated",
        "justification": "The build directory holds what another compiler has made.",
    },
)
TALK = (
    ("Why is the test of the parser slow?", "It builds the grammar anew for each of 900 cases."),
    ("Build it once, then.", "Done: the fixture has the scope of the module now. 41 s became 2 s."),
)


def act(room: HubRoom, tab: Tab) -> None:
    """What is to be seen: some turns, a restart, an approval that waits."""
    for prompt, answer in TALK:
        room.model.queue.append(Reply(deltas=[answer]))
        run_prompt(tab, prompt)
        tab.until(ENDED)
    os.kill(room.child_pid, signal.SIGKILL)
    tab.until("document.getElementById('status').textContent.includes('1 since the daemon')")
    tab.until("document.getElementById('status').textContent.includes('ready for')")
    room.model.queue.append(Reply(call=CALL))
    run_prompt(tab, "Now run the tests.")
    tab.until(APPROVAL_WAITS)
    tab.evaluate("document.activeElement.blur()")


def take(browser: str, report: Callable[[str], object]) -> None:
    """All of them."""
    with tempfile.TemporaryDirectory() as schemas, chromium(browser) as chrome:
        flags = ("--hub-listen", "127.0.0.1:0", "--node-id", "build-7")
        settings = {"approval_policy": '"on-request"', "sandbox_mode": '"read-only"'}
        room = HubRoom(Schemas(Path(schemas)), *flags, **settings)
        try:
            room.event("hub.listening")
            tab = chrome.tab()
            tab.look(1180, 800)
            tab.open(new_url(room))
            tab.until(LIVE)
            act(room, tab)
            for name, width, height, dark in PICTURES:
                tab.look(width, height, dark=dark)
                tab.until(f"innerWidth === {width}")
                tab.screenshot(PLACE / name)
                report(f"{name}: {(PLACE / name).stat().st_size} bytes")
        finally:
            room.close()


if __name__ == "__main__":
    found = chromium_path()
    if found is None:
        sys.exit("There is no Chromium here: `apt-get install chromium` brings it.")
    take(found, print)
