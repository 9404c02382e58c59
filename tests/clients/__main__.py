"""Drive the clients that other people wrote, and print the table of docs/reference/clients.md.

``python -m tests.clients [--place DIR] [--only NAME]... [--write]``

Each is installed from PyPI or npm at a pinned version into DIR, and plays the same play three
times: on the bare `codex app-server`, through codexd, and two of them side by side on one codexd. A
turn; a SIGKILL of the server in the middle of the next; and one more turn. Everything is on the
loopback, with a local model. By hand: it takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.clients.ai_sdk_app_server import AiSdkAppServer
from tests.clients.ai_sdk_codex_cli import AiSdkCodexCli
from tests.clients.client import Client
from tests.clients.codex_a2a import CodexA2a
from tests.clients.codex_acp import CodexAcp
from tests.clients.codex_agent_sdk import AgentSdk
from tests.clients.codex_app_server_client import AppServerClient
from tests.clients.codex_app_server_sdk import AppServerSdk
from tests.clients.codex_python_sdk import PythonSdk
from tests.clients.codex_python_sdk_unofficial import UnofficialSdk
from tests.clients.codex_sdk_python import VendorPython
from tests.clients.codex_sdk_typescript import VendorTypeScript
from tests.clients.codex_sdk_vectorfy import VectorfySdk
from tests.clients.codex_tui import VendorTui
from tests.clients.codexed import Codexed
from tests.clients.happy import Happy
from tests.clients.place import CannotInstall, Place
from tests.clients.play import Outcome
from tests.clients.stage import Stage

CLIENTS: tuple[type[Client], ...] = (
    VendorPython,
    VendorTui,
    VendorTypeScript,
    CodexAcp,
    AiSdkCodexCli,
    AiSdkAppServer,
    Happy,
    CodexA2a,
    AppServerSdk,
    PythonSdk,
    AppServerClient,
    AgentSdk,
    UnofficialSdk,
    VectorfySdk,
    Codexed,
)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "clients.md"
_BEGIN, _END = "<!-- measured: python -m tests.clients --write -->", "<!-- end -->"
_CHARACTERS = 90
_HEAD = (
    "| client | version | attached by | bare codex | through codexd | two on it | remarks |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(tempfile.gettempdir()) / "codexd-clients"
    parser.add_argument("--place", type=Path, default=default, metavar="DIR")
    parser.add_argument("--only", action="append", metavar="NAME")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    given = parser.parse_args()
    chosen = [made for made in CLIENTS if not given.only or made.name in given.only]
    rows = []
    for made in chosen:
        rows.append(_row(made(), Place(given.place)))
        print(rows[-1], flush=True)
    table = [*_HEAD, *rows]
    print("\n" + "\n".join(table))
    if given.write:
        _write(table)
    return 0


def _row(client: Client, place: Place) -> str:
    cells = [client.name, client.version, client.attached or "–"]
    try:
        client.install(place)
    except CannotInstall as error:
        return _line([*cells, "–", "–", "–", f"not run: {error}"])
    bare = _outcome(client, with_codexd=False, count=1)
    told = [f"bare: {_told(bare)}"]
    verdicts = [_verdict(bare), "–", "–"]
    if client.attached:
        alone, pair = (_outcome(client, with_codexd=True, count=count) for count in (1, 2))
        told.append(f"codexd: {_told(alone)}")
        verdicts[1:] = map(_verdict, (alone, pair))
    remarks = [client.remark] if client.remark else []
    return _line([*cells, *verdicts, "; ".join([*remarks, *told])])


def _outcome(client: Client, *, with_codexd: bool, count: int) -> Outcome:
    stage = Stage(with_codexd=with_codexd)
    try:
        outcome = client.run(stage, count)
        print(f"  {client.name}, codexd={with_codexd}, {count}: {outcome}", file=sys.stderr)
        return outcome
    except (AssertionError, OSError) as error:
        return Outcome(f"not played: {str(error)[:200]}")
    finally:
        stage.close()


def _verdict(outcome: Outcome) -> str:
    if not outcome.works:
        return "no turn"
    if outcome.survives:
        return "goes on"
    return "hangs" if "no end" in (outcome.cut, outcome.after) else "fails"


def _told(outcome: Outcome) -> str:
    """What the client says of it, in few words."""
    if not outcome.works:
        return _shortened(outcome.first)
    after = "" if outcome.after in ("answered", "") else f", then {_shortened(outcome.after)}"
    return _shortened(outcome.cut) + after


def _shortened(text: str) -> str:
    # What a server said on stderr comes last, and is long.
    text = text.partition("WARNING")[0].partition(" stderr_tail")[0].rstrip(": ")
    return f"{text[:_CHARACTERS]}…" if len(text) > _CHARACTERS else text


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "/") for cell in cells) + " |"


def _write(table: list[str]) -> None:
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    day = f"Measured on {datetime.now(UTC):%Y-%m-%d}, {sys.platform}, codex 0.163.0."
    PAGE.write_text("\n".join([before + _BEGIN, "", day, "", *table, "", _END + after]), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
