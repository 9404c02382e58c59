"""What the install scripts ask about a service file, which is on stdin.

    service_file.py check launchd|systemd [PID]       whether such a service can run here
    service_file.py wait launchd|systemd NAME [SIZE]  until the service NAME is up

PID is the process of the service that is to be replaced, SIZE how long its error log was. Exit
code 1, and one line on stderr, where it cannot or is not. Runs with the Python of codexd.
"""

import os
import plistlib
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from codexd.client.service import closed_directories, find_obstacle, wait_for_service
from codexd.config import Config, resolve
from codexd.settings_file import read_settings_file

# launchd starts a job that has just ended only after its ThrottleInterval.
PATIENCE_S = 20.0
ESCAPES = {"n": "\n", "t": "\t"}


class Service:
    """A service file: environment, configuration and error log of the service."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        self.error_log: str | None = None
        if kind == "launchd":
            plist = plistlib.loads(text.encode())
            self.environ: Mapping[str, str] = plist["EnvironmentVariables"]
            self.error_log = plist["StandardErrorPath"]
        else:
            self.environ = {"HOME": os.path.expanduser("~"), **unit_environment(text)}
        file = read_settings_file(None, self.environ)
        self.config: Config = resolve({}, self.environ, cwd="/", file=file)


def unit_environment(text: str) -> dict[str, str]:
    """The variables of a unit that codexd has rendered: one a line, quoted."""
    found = {}
    for word in re.findall(r'^Environment="(.*)"$', text, re.MULTILINE):
        plain = re.sub(r"\\(.)", lambda match: ESCAPES.get(match[1], match[1]), word)
        name, _, value = plain.replace("%%", "%").partition("=")
        found[name] = value
    return found


def check(service: Service, own_pid: int | None) -> str | None:
    """The obstacle, or None; warnings are only said."""
    if service.kind == "launchd":
        home = service.environ["HOME"]
        config = service.config
        for path in closed_directories(config.paths, config.server.child_cwd, home):
            say(
                f"warning: macOS may keep launchd jobs out of {path}; the service then ends with "
                "126. Give it Full Disk Access (docs/how-to/install-launchd.md), or move it."
            )
    return find_obstacle(service.config, service.environ, own_pid)


def wait(service: Service, name: str, size: int) -> str | None:
    """Why the service is not up, in codexd's own words where it said any; None where it is."""

    def words() -> str | None:
        return last_words(service, name, size)

    reason = wait_for_service(
        service.config,
        lambda: main_pid(service.kind, name),
        lambda: has_failed(name) if service.kind == "systemd" else words() is not None,
        PATIENCE_S,
    )
    return reason and (words() or reason)


def main_pid(kind: str, name: str) -> int | None:
    """The process of the service now."""
    if kind == "launchd":
        found = re.search(r"^\s*pid = (\d+)$", output("launchctl", "print", name), re.MULTILINE)
    else:
        found = re.fullmatch(r"([1-9]\d*)", show(name, "MainPID"))
    return int(found[1]) if found else None


def has_failed(name: str) -> bool:
    """Whether systemd has given the service up."""
    return show(name, "ActiveState") == "failed"


def show(name: str, what: str) -> str:
    """One property of a systemd service."""
    return output("systemctl", "--user", "show", f"--property={what}", "--value", name).strip()


def last_words(service: Service, name: str, size: int) -> str | None:
    """The last line of codexd's since the service was started."""
    if service.error_log is not None:
        try:
            data = Path(service.error_log).read_bytes()
        except OSError:
            return None
        text = data[size if size <= len(data) else 0 :].decode("utf-8", "replace")
    else:
        run = f"_SYSTEMD_INVOCATION_ID={show(name, 'InvocationID')}"
        text = output("journalctl", "--user", run, "-n20", "-ocat", "--no-pager")
    lines = [line for line in text.splitlines() if line.startswith("codexd: ")]
    return lines[-1].removeprefix("codexd: ") if lines else None


def output(*command: str) -> str:
    """What a command prints; nothing where it cannot be run."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def say(line: str) -> None:
    """One line for the user."""
    print(f"codexd: {line}", file=sys.stderr)


def main(what: str, kind: str, *rest: str) -> str | None:
    """Do what is asked."""
    service = Service(kind, sys.stdin.buffer.read().decode("utf-8", "surrogateescape"))
    number = int(rest[-1]) if rest and rest[-1].isdigit() else None
    if what == "check":
        return check(service, number)
    return wait(service, rest[0], number or 0)


if __name__ == "__main__":
    obstacle = main(*sys.argv[1:])
    if obstacle is not None:
        say(obstacle)
        sys.exit(1)
