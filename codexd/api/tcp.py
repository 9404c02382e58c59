"""The TCP listener's token files and its socket."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from codexd.address import Address, is_loopback, parse_ip
from codexd.config import Paths
from codexd.encoding import UNDECODABLE, decode_json, encode_json
from codexd.listener_settings import BadListener
from codexd.platform.files import read_whole, write_aside
from codexd.settings import Policy
from codexd.store import token_file
from codexd.store.token_file import BadToken


class _Kept(msgspec.Struct, rename="camel"):
    """The port that was had, for the next plugin of this daemon."""

    listen: str
    port: int


class TokenFiles(msgspec.Struct, rename="camel", frozen=True):
    """Where the tokens are; ``read`` is None where there is no second one."""

    all: str
    read: str | None


def token_files(policy: Policy, paths: Paths, environ: Mapping[str, str]) -> TokenFiles:
    """The token files that these settings mean."""
    path = policy.hub_token_file or token_file.default_path(paths, environ)
    return TokenFiles(path, policy.hub_read_token_file or None)


def prepare_tokens(files: TokenFiles) -> None:
    """Make the tokens that are not there.

    Raises:
        BadListener, BadToken: they cannot be used.
    """
    check_tokens(files)
    for path in filter(None, (files.all, files.read)):
        token_file.make(path)


def check_tokens(files: TokenFiles) -> None:
    """See that the tokens that are there can be used. Makes nothing.

    Raises:
        BadListener, BadToken: they cannot.
    """
    if files.read is not None and os.path.realpath(files.read) == os.path.realpath(files.all):
        raise BadListener(
            f'The token for reading cannot be the one for everything, "{files.all}": '
            "give --hub-read-token-file another path."
        )
    paths = filter(None, (files.all, files.read))
    tokens = [token_file.read(path) for path in paths if os.path.lexists(path)]
    if len(set(tokens)) < len(tokens):
        raise BadToken(
            f'The token files hold the same token: remove "{files.read}", and a new one is made.'
        )


Place = tuple[int, int, int, str, Any]


def resolve(address: Address) -> Sequence[Place]:
    """Where the address is, as getaddrinfo(3) tells it; may block on a name.

    Raises:
        OSError: nobody knows.
    """
    flags = socket.AI_PASSIVE | (socket.AI_NUMERICHOST if address.ip is not None else 0)
    try:
        return socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)
    except OSError as error:
        raise _named(error, address) from error


def bind(address: Address, places: Sequence[Place], kept_path: str | None) -> socket.socket:
    """A socket that is bound to the first of the places that can be had.

    Port 0 is the one that an earlier plugin of this daemon had, if it can be: ``kept_path`` has it,
    where it is kept.

    Raises:
        OSError: none can be bound.
    """
    # Whoever named a port has it.
    kept_path = kept_path if address.port == 0 else None
    kept = _kept_port(kept_path, address) if kept_path is not None else 0
    if kept:
        with contextlib.suppress(OSError):
            return _bind(address, places, kept)
    try:
        bound = _bind(address, places, address.port)
    except OSError as error:
        raise _named(error, address) from error
    if kept_path is not None:
        # Without it, the next plugin takes another.
        with contextlib.suppress(OSError):
            entry = _Kept(str(address), bound.getsockname()[1])
            write_aside(kept_path, encode_json(entry) + b"\n", flush=False)
    return bound


def _bind(address: Address, places: Sequence[Place], port: int) -> socket.socket:
    trouble = OSError("It has no address")
    for family, kind, protocol, _, (host, _, *more) in places:
        if address.is_loopback and not is_loopback(parse_ip(str(host))):
            trouble = OSError(f"It is {host}, which other machines reach")
            continue
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # [::] is every address, whatever the system's own idea of it.
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not address.is_any)
            bound.bind((host, port, *more))
        except OSError as error:
            bound.close()
            trouble = error
            continue
        return bound
    raise trouble


def _named(error: OSError, address: Address) -> OSError:
    return OSError(error.errno, error.strerror or str(error), str(address))


def _kept_port(path: str, address: Address) -> int:
    try:
        kept = decode_json(read_whole(path), _Kept)
    except (OSError, *UNDECODABLE):
        return 0
    return kept.port if kept.listen == str(address) and 0 < kept.port <= 0xFFFF else 0
