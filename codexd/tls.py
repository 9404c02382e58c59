"""TLS of the TCP listener: its certificate, the names in it, and a renewed one."""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import Any, Final

_TURNS: Final = 10


class BadTls(OSError):
    """Certificate and key cannot be used. The text is one line that says which and why."""


class Tls:
    """Certificate and key as their files have them; ``context`` is that for the next connection.

    Raises:
        BadTls: they cannot be used.
    """

    def __init__(self, cert: str, key: str) -> None:
        self._cert = cert
        self._key = key
        self._stamp = self._look()
        self._load()

    def _load(self) -> None:
        self.context = _context(self._cert, self._key)
        self.names = _names(self.context, self._cert)

    def refresh(self) -> None:
        """Take a renewed certificate; who is connected stays. To be called from time to time.

        Raises:
            BadTls: it cannot be used, told once; the old one goes on.
        """
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            self._load()

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self._cert, self._key))


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _context(cert: str, key: str) -> ssl.SSLContext:
    for path, what in ((cert, "certificate"), (key, "private key")):
        try:
            open(path, "rb").close()
        except OSError as error:
            raise BadTls(f'The {what} "{path}" cannot be read: {error.strerror}.') from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])

    def ask() -> str:
        # Else OpenSSL asks on the terminal.
        raise BadTls(f'The private key "{key}" is encrypted: give one that is not.')

    try:
        context.load_cert_chain(cert, key, password=ask)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f'the private key "{key}" is that of another certificate'
        else:
            why = f'there is no certificate, or no private key in "{key}"'
        raise BadTls(f'TLS with the certificate "{cert}" is not possible: {why}.') from error
    return context


def _names(server: ssl.SSLContext, cert: str) -> frozenset[str]:
    """The names in the certificate.

    Python tells them of a certificate that it trusts at the end of a handshake: so one is made, in
    memory, by a client that trusts just this one. Of one that has expired none are known.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client.load_verify_locations(cert)
        asks = client.wrap_bio(back, there)
        answers = server.wrap_bio(there, back, server_side=True)
        for turn in range(_TURNS):
            with contextlib.suppress(ssl.SSLWantReadError):
                (answers if turn % 2 else asks).do_handshake()
        told: dict[str, Any] = dict(asks.getpeercert() or {})
    except (ssl.SSLError, ValueError):
        return frozenset()
    return frozenset(str(entry[1]) for entry in told.get("subjectAltName", ()))
