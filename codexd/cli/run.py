"""`codexd run`: one turn, from its prompt to its end."""

from __future__ import annotations

import os
import sys
from http import HTTPStatus
from typing import Any

import click

from codexd.cli.desk import (
    AnswerAll,
    AskOnTerminal,
    Desk,
    LeaveToOthers,
    declined_for_nobody,
    open_terminal,
)
from codexd.cli.exec_fallback import ExecOrder, run_exec
from codexd.cli.nouns import client_of, running_client, runs
from codexd.cli.options import BadValue, CliError, Seconds, daemon_options, json_option
from codexd.cli.printer import Printer, Unwritable, write, write_bytes
from codexd.cli.server_ready import why_no_app_server, why_no_server
from codexd.cli.streams import discard_stdout, tell
from codexd.cli.terminal import is_terminal
from codexd.cli.threads import thread_id_of
from codexd.cli.transcript import Transcript, error_text, seconds
from codexd.cli.turn_driver import Left, Order, TurnDriver
from codexd.client.errors import DaemonError, Refused
from codexd.client.sync import Client
from codexd.client.where import PATIENCE_S
from codexd.config import Config
from codexd.encoding import UNDECODABLE, decode_json, encode_json
from codexd.shapes import Approval, FinishedTurn

_EXIT = {"completed": 0, "failed": 1, "interrupted": 4}
_INTERRUPTED = 4
_REFUSED = 5
# What the daemon takes in one request (see the reference of HTTP).
_LONGEST = 1 << 20


@click.command("run")
@click.argument("prompt", metavar="PROMPT|-")
@click.option("--thread", metavar="ID", help="Go on with this thread; without, it is a new one.")
@click.option("--cwd", metavar="DIR", help="Where the agent works.  [default: here]")
@click.option("--model", metavar="M", help="The model.  [default: the server's]")
@json_option
@click.option("--timeout", metavar="S", type=Seconds(), help="Interrupt it after S seconds.")
@click.option(
    "--fallback",
    type=click.Choice(["exec"]),
    help="Where the server cannot be had, run `codex exec`.",
)
@click.option("--yes", "answer", flag_value="accept", help="Give leave for all that is asked.")
@click.option("--no", "answer", flag_value="decline", help="Give leave for nothing.")
@click.option("--output-schema", metavar="FILE", help="JSON schema that the answer must fit.")
@daemon_options
def run(
    config: Config,
    prompt: str,
    thread: str | None,
    cwd: str | None,
    model: str | None,
    as_json: bool,
    timeout: float | None,
    fallback: str | None,
    answer: str | None,
    output_schema: str | None,
) -> int:
    """Run one turn on the daemon's server, and print what the agent says.

    A PROMPT of - is read from stdin. Not on a terminal, stdout gets what was said last, or with
    --json each notification; stderr is told what is done.

    Exits with 0 when it completed, 1 failed, 4 interrupted, 5 for want of leave.
    """
    schema = None if output_schema is None else _read_schema(output_schema)
    where = None if cwd is None and thread is not None else _directory(cwd or ".")
    reads_stdin = prompt == "-"
    text = _read_stdin() if reads_stdin else prompt
    if not text.strip():
        raise BadValue("The prompt is empty.")
    printer = Printer()
    looker = client_of(config)
    exec_order = ExecOrder(text, where or os.getcwd(), thread, model, as_json, output_schema)
    if fallback is not None:
        reason = why_no_server(looker, config)
        if reason is not None:
            return _exec(config, exec_order, timeout, printer, reason)
    client = running_client(config, timeout_s=PATIENCE_S)
    why_not = why_no_app_server(config)
    if why_not is not None:
        raise CliError(why_not)
    thread_id = None if thread is None else thread_id_of(config, looker, thread)
    turn = _Turn(config, printer, where or os.getcwd(), as_json=as_json)
    desk = turn.desk(answer, reads_stdin=reads_stdin)
    driver = TurnDriver(
        client,
        looker,
        turn,
        desk,
        daemon_lives=lambda: runs(config),
        timeout_s=timeout,
    )
    try:
        return turn.run(driver, looker, Order(text, thread_id, where, model, schema))
    except Refused as error:
        if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise _too_long() from error
        raise
    except DaemonError as error:
        # What may run already is not run twice.
        if fallback is None or driver.has_begun:
            raise
        return _exec(config, exec_order, timeout, printer, str(error))


class _Turn:
    """The turn as this command shows it; a :class:`~codexd.cli.turn_driver.Watcher`."""

    def __init__(self, config: Config, printer: Printer, root: str, *, as_json: bool) -> None:
        self._config = config
        self._printer = printer
        self._as_json = as_json
        self._transcript = Transcript(root)
        self._is_told_its_end = False
        self._was_refused = False
        self._driver: TurnDriver | None = None

    def desk(self, answer: str | None, *, reads_stdin: bool) -> Desk:
        """Who decides."""
        if answer is not None:
            return AnswerAll(answer)
        tty = open_terminal(reads_stdin=reads_stdin)
        if tty is not None:
            return AskOnTerminal(tty, self._printer.say, self._stops)
        if self._config.policy.approval_command:
            return LeaveToOthers()
        return AnswerAll("decline", is_nobodys=True)

    def run(self, driver: TurnDriver, looker: Client, order: Order) -> int:
        """Run it; the exit code."""
        self._driver = driver
        finished = None
        try:
            finished = driver.run(order)
            self._catch_up(driver, looker, finished)
            self._end(driver, finished)
        except Left as error:
            self._printer.end_line()
            self._printer.tell(str(error))
            return _INTERRUPTED if driver.was_stopped else 1
        except Unwritable as error:
            discard_stdout()
            if finished is None:
                self._printer.tell(f"{error}: the turn is interrupted")
                driver.abandon()
            else:
                self._printer.tell(str(error))
            return 1
        if self._was_refused and not driver.was_stopped:
            return _REFUSED
        return _EXIT.get(finished.status, 1)

    # -- for the driver ------------------------------------------------------------------------

    def heard(self, notification: dict[str, Any]) -> None:
        """Show it."""
        if self._as_json:
            self._is_told_its_end = notification.get("method") == "turn/completed"
            _write_line(notification)
            return
        for shown in self._transcript.hear(notification):
            self._printer.show(shown)

    def tell(self, text: str) -> None:
        """Say it on stderr."""
        self._printer.tell(text)

    def refused(self, approval: Approval) -> None:
        """Say so, and remember it."""
        self._was_refused = True
        self._printer.say(declined_for_nobody(approval))

    def _stops(self) -> bool:
        return self._driver is not None and self._driver.stops()

    # -- its end -------------------------------------------------------------------------------

    def _catch_up(self, driver: TurnDriver, looker: Client, finished: FinishedTurn) -> None:
        """Show what was not heard while the daemon was away."""
        if not driver.was_broken or driver.thread_id is None:
            return
        try:
            items = looker.turn(driver.thread_id, finished.turn_id).items
        except DaemonError:
            return
        if not self._as_json:
            for item in items:
                for shown in self._transcript.complete(item):
                    self._printer.show(shown)
        elif not self._is_told_its_end:
            _write_line(_completed(driver.thread_id, finished, items))

    def _end(self, driver: TurnDriver, finished: FinishedTurn) -> None:
        printer = self._printer
        printer.end_line()
        # Of a turn that was cut, what there was of its end is better than nothing.
        text = finished.final_response or self._transcript.last_words
        if not self._as_json and not printer.streams_text and text:
            write(text.rstrip("\n") + "\n")
        thread = driver.thread_id
        if finished.status != "completed":
            why = "" if finished.error is None else f": {error_text(finished.error)}"
            printer.tell(f"the turn {_WORDS.get(finished.status, finished.status)}{why}")
            if finished.status == "interrupted" and not driver.was_stopped:
                printer.tell(f'`codexd run --thread {thread} "go on"` goes on with it')
        elif is_terminal(sys.stderr):
            took = finished.duration_ms
            after = "" if took is None else f" after {seconds(took / 1000)}"
            printer.tell(f"done{after}; `codexd run --thread {thread} …` goes on")


_WORDS = {"failed": "failed", "interrupted": "was interrupted"}


def _completed(
    thread_id: str, finished: FinishedTurn, items: list[dict[str, Any]]
) -> dict[str, Any]:
    """The end of a turn as the protocol tells it, for those who were not told."""
    turn = {
        "id": finished.turn_id,
        "status": finished.status,
        "items": items,
        "error": finished.error,
        "durationMs": finished.duration_ms,
    }
    return {"method": "turn/completed", "params": {"threadId": thread_id, "turn": turn}}


def _write_line(document: dict[str, Any]) -> None:
    write_bytes(encode_json(document) + b"\n")


def _exec(
    config: Config, order: ExecOrder, timeout: float | None, printer: Printer, reason: str
) -> int:
    from codexd.child.command import CommandNotFound

    printer.tell(f"{reason} `codex exec` runs it instead.")
    try:
        return run_exec(config, order, timeout)
    except CommandNotFound as error:
        raise CliError(str(error)) from error


def _directory(path: str) -> str:
    whole = os.path.abspath(path)
    if not os.path.isdir(whole):
        raise BadValue(f'Invalid --cwd "{path}": there is no such directory.')
    return whole


def _read_stdin() -> str:
    if is_terminal(sys.stdin) and is_terminal(sys.stderr):
        tell("the prompt is read from here, until Ctrl-D")
    # What never ends is not read for ever.
    data = sys.stdin.buffer.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise _too_long()
    return data.decode("utf-8", "replace")


def _too_long() -> CliError:
    return BadValue(
        f"The prompt is too long: the daemon takes {_LONGEST} bytes. Put it into a file, and "
        "name that in the prompt."
    )


def _read_schema(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return decode_json(file.read(), dict[str, Any])
    except OSError as error:
        raise BadValue(f"Invalid --output-schema {path}: {error.strerror}.") from error
    except UNDECODABLE as error:
        raise BadValue(f"Invalid --output-schema {path}: it is no JSON object.") from error
