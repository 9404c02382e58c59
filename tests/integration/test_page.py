"""The page: who gets in on real sockets, and what it does in a real browser."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.support.browser import Browser, Tab, chromium, chromium_path
from tests.support.codex import free_port
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply
from tests.support.page import (
    APPROVAL_WAITS,
    LIVE,
    Visitor,
    dashboard,
    new_url,
    run_prompt,
    text_of,
)
from tests.support.settled import settled
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

CALL = (
    "exec_command",
    {
        "cmd": "echo <b>bold</b> \u202egnp\U000e0041\u3164.exe # " + "y" * 30_000 + "end",
        "login": False,
        "sandbox_permissions": "require_escalated",
        "justification": "because",
    },
)


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    # A port of its own, on which it is found again.
    address = f"127.0.0.1:{free_port()}"
    made = make_room(
        "--hub-listen", address, approval_policy='"on-request"', sandbox_mode='"read-only"'
    )
    made.event("hub.listening")
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium_path()
    if path is None:
        pytest.skip("there is no Chromium here: `apt-get install chromium` brings it")
    with chromium(path) as made:
        yield made


@pytest.fixture
def tab(browser: Browser, room: HubRoom) -> Iterator[Tab]:
    """A tab that is let in; at its end nothing has been complained of."""
    made = browser.tab()
    made.open(new_url(room))
    made.until(LIVE)
    yield made
    room.model.queue.clear()
    made.close()


# -- on real sockets ------------------------------------------------------------------------------


def test_a_browser_is_let_in_once_and_stays(room: HubRoom) -> None:
    url = dashboard(room)
    visitor = Visitor(url)
    status, told, _ = visitor.ask("GET", "/")
    assert (status, told["cache-control"]) == (200, "no-cache")
    assert visitor.ask("GET", "/v1/status")[0] == 401
    assert visitor.ask("POST", "/v1/page/codes")[0] == 401
    status, told, _ = visitor.log_in()
    assert status == 201
    assert told["set-cookie"].endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert Visitor(url).log_in()[0] == 403
    assert visitor.ask("GET", "/v1/status")[0] == 200
    # Not without each of what a page of its own sends.
    assert visitor.ask("GET", "/v1/status", Cookie=None)[0] == 401
    assert visitor.ask("GET", "/v1/status", Codexd_Page=None)[0] == 401
    new = {"purpose": "worker"}
    assert visitor.ask("POST", "/v1/sessions", new)[0] == 201
    assert visitor.ask("POST", "/v1/sessions", new, Origin=None)[0] == 403
    assert visitor.ask("POST", "/v1/sessions", new, Origin="http://127.0.0.1:1")[0] == 403
    assert visitor.ask("POST", "/v1/sessions", new, Sec_Fetch_Site="same-site")[0] == 403
    assert visitor.ask("POST", "/v1/page/codes")[0] == 403
    # No code is in what codexd writes.
    logs = [path for path in settled(Path(room.box.logs_dir)) if path.is_file()]
    assert all(visitor.code.encode() not in path.read_bytes() for path in logs)


def test_it_stays_in_over_the_death_of_the_plugin_and_leaves_with_the_token(room: HubRoom) -> None:
    visitor = Visitor(new_url(room))
    visitor.log_in()
    os.kill(room.box.plugin().pid, signal.SIGKILL)

    def is_back() -> bool:
        try:
            return visitor.ask("GET", "/v1/status")[0] == 200
        except OSError:
            return False

    eventually(is_back, what="the page after the plugin's death")
    assert room.box.run("token", "--rotate").returncode == 0
    assert visitor.ask("GET", "/v1/status")[0] == 401


# -- in a browser ---------------------------------------------------------------------------------


def test_a_prompt_runs_and_its_transcript_can_be_read(room: HubRoom, tab: Tab) -> None:
    assert "#" not in tab.evaluate("location.href")
    [cookie] = [one for one in tab.cookies() if one["name"].startswith("codexd_page")]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert tab.evaluate("document.cookie") == ""
    room.model.queue.append(Reply(deltas=["Hello ", "from ", "the model"]))
    run_prompt(tab, "Say hello")
    tab.until("document.getElementById('run-state').textContent.includes('completed')")
    assert "Hello from the model" in text_of(tab, "run")
    tab.until("document.querySelectorAll('#timeline rect.turn').length > 0")
    tab.until("document.getElementById('events').textContent.includes('turn.completed')")
    # From the keyboard alone.
    tab.until("[...document.querySelectorAll('#sessions button')].length > 0")
    tab.evaluate(
        "[...document.querySelectorAll('#sessions button')]"
        ".find((one) => one.textContent === 'Transcript').focus()"
    )
    tab.press("Enter", 13)
    tab.until("document.getElementById('transcript-body').innerText.includes('from the model')")
    # Its card is drawn anew meanwhile: what had the focus is gone.
    tab.evaluate(
        "for (const card of document.getElementById('sessions').children) card.dataset.print = '';"
        "document.getElementById('sessions-closed').dispatchEvent(new Event('change'))"
    )
    tab.until(
        "![...document.getElementById('sessions').children].some((one) => !one.dataset.print)"
    )
    tab.press("Escape", 27)
    tab.until("!document.getElementById('transcript').open")
    tab.until("document.activeElement.textContent === 'Transcript'")
    assert tab.complaints == []


def test_what_an_agent_says_stays_text(room: HubRoom, tab: Tab) -> None:
    nasty = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    room.model.queue.append(Reply(deltas=[nasty, "\u202eend"]))
    run_prompt(tab, "<b>bold</b>")
    tab.until("document.getElementById('run-state').textContent.includes('completed')")
    text = text_of(tab, "run")
    assert nasty in text
    assert "\\u202eend" in text
    assert tab.evaluate("document.querySelectorAll('#run img, #run script, #run b').length") == 0
    assert tab.evaluate("document.title").startswith("codexd")
    with pytest.raises(AssertionError, match="TrustedHTML"):
        tab.evaluate("document.body.innerHTML = '<p>'")


@pytest.mark.parametrize("word", ["Decline", "Accept"])
def test_an_approval_is_answered(room: HubRoom, tab: Tab, word: str) -> None:
    # A pointer that was about to press something else presses whatever comes under it.
    tab.evaluate(
        "new MutationObserver(() => document.querySelector('#approvals-list button')?."
        "dispatchEvent(new MouseEvent('click', { detail: 1 })))"
        ".observe(document.getElementById('approvals-list'), { childList: true })"
    )
    room.model.queue.append(Reply(call=CALL))
    tab.evaluate("document.getElementById('prompt-text').focus()")
    tab.type("Ask me")
    for _ in range(10):
        tab.press("Tab", 9)
        if tab.evaluate("document.activeElement.id") == "prompt-run":
            break
    tab.press("Enter", 13)
    tab.until(APPROVAL_WAITS)
    shown = text_of(tab, "approvals-list")
    assert "echo <b>bold</b> \\u202egnp\\u{e0041}\\u3164.exe" in shown
    assert "yend" in shown
    assert "because" in shown
    tab.until("document.title.startsWith('(1)')")
    tab.evaluate(
        "[...document.querySelectorAll('#approvals-list button')]"
        f".find((one) => one.textContent === '{word}').focus()"
    )
    tab.press("Enter", 13)
    tab.until("document.getElementById('run-state').textContent.includes('completed')")
    tab.until(f"!({APPROVAL_WAITS})")
    # Nobody who uses the keyboard begins at the top again.
    assert tab.evaluate("document.activeElement.tagName") != "BODY"
    assert ("Command: declined" in text_of(tab, "run")) is (word == "Decline")
    assert tab.complaints == []


def test_it_goes_on_when_the_daemon_comes_back(room: HubRoom, tab: Tab) -> None:
    count = "[...document.querySelectorAll('#events .mono')].filter((one) => one.textContent ==="
    before = len(room.box.events("daemon.started"))
    tab.until(f"{count} 'daemon.started').length === {before}")
    assert room.box.stop() == 0
    tab.until("document.getElementById('link').dataset.state === 'away'")
    room.box.start()
    tab.until(LIVE)
    # What it had is still there, once, and what happened meanwhile.
    tab.until(f"{count} 'daemon.started').length === {before + 1}")
    assert tab.evaluate(f"{count} 'daemon.stopped').length") >= 1
    # It was away, and the browser says so: nothing else is complained of.
    assert all("ERR_" in complaint for complaint in tab.complaints)


def test_who_is_not_let_in_is_told_what_to_do(room: HubRoom, tab: Tab) -> None:
    assert room.box.run("token", "--rotate").returncode == 0
    tab.until("!document.getElementById('door').hidden")
    assert "codexd dashboard" in text_of(tab, "door")
    assert tab.evaluate("document.getElementById('inside').hidden")
    # In the same tab only the fragment changes.
    tab.open(new_url(room))
    tab.until(LIVE)


def test_it_fits(tab: Tab) -> None:
    style = "getComputedStyle(document.body)"
    brightness = "((text) => text.match(/\\d+/g).map(Number).reduce((a, b) => a + b))"
    colours = f"[{style}.backgroundColor, {style}.color].map({brightness})"
    for width in (360, 800, 1400):
        for dark in (False, True):
            tab.look(width, 800, dark=dark)
            tab.until(f"innerWidth === {width}")
            page = "document.documentElement"
            assert tab.evaluate(f"{page}.scrollWidth - {page}.clientWidth") == 0, width
            back, ink = tab.evaluate(colours)
            assert (back < ink) is dark


def test_everything_has_a_name_and_is_reached_by_tab(tab: Tab) -> None:
    roles = {"button", "combobox", "textbox", "checkbox", "region", "dialog", "image", "link"}
    labels = tab.labels()
    assert [role for role, name in labels if role in roles and not name] == []
    assert {"banner", "main"} <= {role for role, _ in labels}
    reached = []
    tab.evaluate("document.activeElement.blur()")
    for _ in range(25):
        tab.press("Tab", 9)
        reached.append(tab.evaluate("document.activeElement.id || document.activeElement.tagName"))
    wanted = ["prompt-thread", "prompt-text", "prompt-run", "timeline-span", "events-all"]
    assert [name for name in reached if name in wanted][: len(wanted)] == wanted


def test_it_is_painted_soon(tab: Tab) -> None:
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    page = str(tab.evaluate("location.href"))

    def painted(url: str, is_there: str) -> float:
        tab.evaluate("window.isOld = true")
        tab.open(url)
        tab.until(f"!window.isOld && {is_there} && {paint} > 0")
        return float(tab.evaluate(paint))

    # How busy the machine is is not the page's doing: the quickest counts, beside that of a line
    # of text from the same server.
    times: list[float] = []
    bare: list[float] = []
    deadline = time.monotonic() + 20
    while not times or (min(times) >= 100 + min(bare) and time.monotonic() < deadline):
        bare.append(painted(urljoin(page, "/healthz"), "true"))
        times.append(painted(page, LIVE))
    assert min(times) < 100 + min(bare), json.dumps([times, bare])
