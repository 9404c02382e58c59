"""identity.json: who this daemon is, for as long as its state directory lives."""

from __future__ import annotations

import contextlib
import logging
import re
import uuid
from typing import Final

import msgspec

from codexd.clock import now_iso
from codexd.config import Config
from codexd.contracts import Identity
from codexd.platform.files import read_own
from codexd.store.files import pretty, write_atomic
from codexd.store.load import load_tolerant

_UUID: Final = rb"([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
# The id where it should be, else any there is.
_PLACES: Final = (re.compile(rb'daemonId["\s:]*' + _UUID), re.compile(_UUID))

logger = logging.getLogger("codexd")


def ensure_identity(config: Config) -> Identity:
    """The identity of this state directory, made and written on the first start.

    Raises:
        OSError: a new identity could not be written, so it would be another the next time.
    """
    identity, is_written, repairs = read_identity(config)
    for repair in repairs:
        logger.warning("%s", repair)
    if not is_written:
        try:
            write_atomic(config.paths.identity_path, pretty(identity))
        except OSError:
            # A full disk must not keep a daemon down that only has a new node id to note.
            if _find_id(_read(config.paths.identity_path)) != identity.daemon_id:
                raise
    return identity


def read_identity(config: Config) -> tuple[Identity, bool, list[str]]:
    """The identity of this state directory, or a new one; nothing is written.

    The id and the time of its making stay for good; the rest follows the configuration. An id
    that can still be found in a damaged file is kept.

    Returns:
        The identity, whether the file holds just that, and a sentence about each thing that had
        to be set right.
    """
    path = config.paths.identity_path
    raw = _read(path)
    kept_id = _find_id(raw)
    fresh = Identity(
        daemon_id=kept_id or str(uuid.uuid4()),
        node_id=config.node_id,
        repo_root=config.paths.repo_root,
        created_at=now_iso(),
        version=config.version,
    )
    found, repair = load_tolerant(path, fresh)
    identity = msgspec.structs.replace(
        found,
        daemon_id=found.daemon_id or fresh.daemon_id,
        node_id=config.node_id,
        repo_root=config.paths.repo_root,
        version=config.version or found.version,
    )
    return identity, pretty(identity) == raw, [repair] if repair else []


def _read(path: str) -> bytes | None:
    with contextlib.suppress(OSError):
        return read_own(path)
    return None


def _find_id(raw: bytes | None) -> str | None:
    for place in _PLACES:
        match = place.search(raw or b"")
        if match:
            return match[1].decode()
    return None
