"""What was pressed, out of the bytes that a terminal sends."""

from __future__ import annotations

from typing import Final

# ECMA-48 and xterm (ctlseqs, "PC-Style Function Keys").
_SEQUENCES: Final = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "page-up",
    b"\x1b[6~": "page-down",
    b"\x1b[H": "home",
    b"\x1bOH": "home",
    b"\x1b[1~": "home",
    b"\x1b[F": "end",
    b"\x1bOF": "end",
    b"\x1b[4~": "end",
}
_NAMES: Final = {
    b"\r": "enter",
    b"\n": "enter",
    b"k": "up",
    b"j": "down",
    b" ": "page-down",
    b"g": "home",
    b"G": "end",
    b"\x7f": "back",
    b"\x08": "back",
}


class Keys:
    """The keys, one after the other; a sequence may come in pieces."""

    def __init__(self) -> None:
        self._held = b""

    @property
    def waits(self) -> bool:
        """Whether what came may be the beginning of more: an Escape, or a key that sends one."""
        return bool(self._held)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are whole now: names, or the character itself."""
        data, self._held = self._held + data, b""
        keys = []
        while data:
            length = _length(data)
            if length is None:
                self._held = data
                break
            key, data = data[:length], data[length:]
            name = _SEQUENCES.get(key) if length > 1 else _NAMES.get(key) or _character(key)
            if name is not None:
                keys.append(name)
        return keys

    def flush(self) -> list[str]:
        """Nothing more came: an Escape was one."""
        held, self._held = self._held, b""
        return ["back"] if held[:1] == b"\x1b" else []


def _length(data: bytes) -> int | None:
    """How many bytes the first key has; None where it is not whole."""
    if data[:1] != b"\x1b":
        return 1
    if len(data) == 1:
        return None
    if data[1:2] == b"O":
        return 3 if len(data) > 2 else None
    if data[1:2] != b"[":
        # With Alt, or an Escape and then something else.
        return 1 if data[1:2] == b"\x1b" else 2
    for at in range(2, len(data)):
        if 0x40 <= data[at] <= 0x7E:
            return at + 1
    return None


def _character(key: bytes) -> str | None:
    if key == b"\x1b":
        return "back"
    return key.decode() if b"!" <= key <= b"~" else None
