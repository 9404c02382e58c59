"""What `codexd --help` lists: each command's group and one line about it.

Kept apart from the commands, so that to list them loads none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "Every day": {
        "status": "How the daemon and its server are, and what to do",
        "run": "Run one prompt, and show what the agent does",
        "sessions": "The sessions, and what goes on in them",
        "threads": "The threads of the server",
        "approvals": "What the server asks leave for; accept or decline",
        "events": "What happened, and what happens",
        "logs": "What the server wrote",
        "daemons": "Every daemon of yours, wherever it runs",
        "top": "All of it live: processes, sessions, events",
        "tui": "codex's own terminal UI on this daemon",
        "dashboard": "Its page, in your browser",
    },
    "Server": {
        "start": "Run the daemon: start the server and keep it up",
        "stop": "Stop the daemon and its server",
        "restart": "Start the server anew; its clients stay",
        "config": "The settings that count here, and where they are from",
        "doctor": "Look for what usually goes wrong, and say how to mend it",
        "metrics": "Numbers for Prometheus",
        "token": "The token of the TCP listener",
    },
    "Install": {
        "service": "Have launchd or systemd run it",
        "completion": "Completion for bash, zsh or fish",
        "smoke": "Prove an installation, without codex",
        "render-plist": "The property list for launchd",
        "render-systemd": "The unit for systemd",
    },
    "Expert": {
        "attach": "Stdin and stdout in place of `codex app-server`",
        "app-server": "The same, as tools call it that know only codex",
        "ctl": "circusctl on this daemon",
        "render-circus": "The circus.ini of this daemon",
        "help": "Help on a command or a topic; the man page",
    },
}
