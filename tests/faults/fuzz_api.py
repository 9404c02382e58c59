"""Requests that are made up: `python -m tests.faults.fuzz_api [--seconds N] [--seed S]`.

A daemon with the real codex and a local model behind it is sent pieces of requests in any order,
cut anywhere, slowly, on many connections. Then it is asked by schemathesis (`pip install
schemathesis`), which makes valid and bent requests from `GET /v1/openapi.json` and holds the
answers to it. By hand: it takes minutes. What must hold all the same: no answer is a 5xx but 503,
no traceback is in codexd.log, and the plugin's memory stays flat.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.api_client import Api
from tests.support.codex import codex_path, short_directory
from tests.support.daemon import DaemonBox
from tests.support.http_words import HTTP_WORDS
from tests.support.model import ModelServer

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_ALLOWED_MIB = 24


def send_pieces(path: str, seconds: float, rng: random.Random) -> collections.Counter[int]:
    """Many connections at a time, each with its own nonsense; the statuses that came back."""
    statuses: collections.Counter[int] = collections.Counter()

    async def one() -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        data = b"".join(rng.choice(HTTP_WORDS) for _ in range(rng.randrange(1, 12)))
        with contextlib.suppress(OSError):
            while data:
                cut = rng.randrange(1, 400)
                writer.write(data[:cut])
                data = data[cut:]
                await asyncio.sleep(rng.choice((0, 0, 0.01)))
            if rng.random() < 0.5:
                writer.write_eof()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(rng.choice((0.01, 0.5))):
                statuses.update(int(found) for found in _STATUS.findall(await reader.read()))
        if rng.random() < 0.3:
            writer.transport.abort()
        writer.close()

    async def work(until: float) -> None:
        while asyncio.get_running_loop().time() < until:
            await one()

    async def run() -> None:
        until = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(work(until) for _ in range(50)))

    asyncio.run(run())
    return statuses


class Forwarder:
    """A TCP port in front of the socket; counts the statuses that come back."""

    def __init__(self, path: str) -> None:
        self.statuses: collections.Counter[int] = collections.Counter()
        self.failed: list[bytes] = []
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._forward, "127.0.0.1", 0)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Forward no more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_unix_connection(self._path)
        sent: list[bytes] = [b""]
        with contextlib.suppress(OSError):
            await asyncio.wait(
                [
                    asyncio.ensure_future(self._pump(reader, forth, sent, None)),
                    asyncio.ensure_future(self._pump(back, writer, sent, self.statuses)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        for end in (writer, forth):
            end.close()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        sent: list[bytes],
        statuses: collections.Counter[int] | None,
    ) -> None:
        while data := await source.read(1 << 16):
            if statuses is None:
                sent[0] = data[:500]
            else:
                for found in _STATUS.findall(data):
                    statuses[int(found)] += 1
                    if int(found) >= 500:
                        self.failed.append(sent[0] + b"\n -> " + data[:500])
            target.write(data)
            await target.drain()


def main() -> int:
    """Run it; 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    seconds, seed = vars(parser.parse_args()).values()
    model = ModelServer()
    with short_directory() as root:
        box = DaemonBox(Path(root), "--server-command", codex_path())
        model.write_config(box.codex_home)
        try:
            box.start()
            path, plugin = box.config.runtime.hub_socket_path, box.plugin()
            forwarder = Forwarder(path)
            url = f"http://127.0.0.1:{forwarder.port}"
            command = [str(Path(sys.executable).with_name("schemathesis")), "run"]
            command += [f"{url}/v1/openapi.json", "--url", url, f"--max-time={seconds}"]
            command += ["--request-timeout=3", f"--seed={seed}", "--no-color"]
            command += ["--exclude-path=/v1/child/stop"]
            command += ["--exclude-checks=not_a_server_error,positive_data_acceptance"]
            rng = random.Random(seed)
            # Some of it is loaded, and some of it kept, only when it is needed.
            send_pieces(path, 2, rng)
            before = plugin.memory_full_info().uss
            raw = send_pieces(path, seconds / 4, rng)
            grown = (plugin.memory_full_info().uss - before) / (1 << 20)
            print(f"pieces: statuses {dict(sorted(raw.items()))}, plugin {grown:+.1f} MiB")
            subprocess.run(command, cwd=root, check=False)
            grown = (plugin.memory_full_info().uss - before) / (1 << 20)
            forwarder.close()
            is_there = Api(path).ask("GET", "/healthz")[0] == 200 and plugin.is_running()
            told = forwarder.statuses + raw
            bad = [status for status in told if status >= 500 and status != 503]
            traces = box.errors().count("Traceback")
            for failed in forwarder.failed[:20]:
                print(failed.decode("utf-8", "replace"))
            print(f"statuses {dict(sorted(forwarder.statuses.items()))}, of the worst {bad}")
            print(f"{traces} tracebacks, plugin {grown:+.1f} MiB, answers: {is_there}")
            if traces:
                print(box.errors())
            return int(bool(bad or traces or grown > _ALLOWED_MIB or not is_there))
        finally:
            box.clean_up()
            model.close()


if __name__ == "__main__":
    sys.exit(main())
