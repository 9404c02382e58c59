"""What `codexd dashboard` opens, and what it says where it cannot."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from codexd.cli import dashboard as module
from codexd.cli.dashboard import directions, may_open

URL = "http://127.0.0.1:8765/"


@pytest.mark.parametrize(
    ("environ", "platform", "may"),
    [
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "linux", False),
        ({"DISPLAY": ""}, "linux", False),
        ({}, "darwin", True),
        ({"SSH_CONNECTION": "1 2 3 4"}, "darwin", False),
        ({"SSH_TTY": "/dev/pts/1", "DISPLAY": "localhost:10.0"}, "linux", False),
    ],
)
def test_a_browser_is_opened_only_where_it_is_seen(
    environ: dict[str, str], platform: str, may: bool
) -> None:
    assert may_open(environ, platform) is may


def test_over_ssh_it_says_how_to_get_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "me")
    over_ssh = {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.7 22"}
    assert list(directions(URL, over_ssh)) == [
        "on your own machine: ssh -L 8765:127.0.0.1:8765 me@192.0.2.7",
        "then open the address there; it is good for one minute, and for one browser",
    ]
    six = {"SSH_CONNECTION": "2001:db8::1 50000 2001:db8::7 22"}
    assert next(directions("http://[::1]:8765/", six)) == (
        "on your own machine: ssh -L 8765:[::1]:8765 me@2001:db8::7"
    )
    # What others reach is reached without a tunnel.
    for url, environ in ((URL, {}), ("https://hub.example:8765/", over_ssh)):
        assert len(list(directions(url, environ))) == 1


def test_the_browser_is_given_a_file_and_the_code_is_no_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def browser(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    assert module._opened(str(tmp_path), f"{URL}#code=se&cret")
    file = tmp_path / "dashboard.html"
    assert opened == [file.as_uri()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert 'content="0;url=http://127.0.0.1:8765/#code=se&amp;cret"' in file.read_text()
    # Where that is not possible, it is told what to do by hand.
    monkeypatch.setattr("webbrowser.open", lambda _url: False)
    assert not module._opened(str(tmp_path), URL)
    assert not module._opened(str(tmp_path / "missing"), URL)
