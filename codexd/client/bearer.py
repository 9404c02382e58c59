"""Whom `--ws-auth` lets in, as `codex app-server` does (codex 0.163, measured)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from codexd.encoding import UNDECODABLE, decode_json

_SECRET_BYTES = 32
_SKEW_S = 30
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class BadAuth(ValueError):
    """The options cannot be used. The text is one line, and names them."""


class Unauthorized(Exception):
    """Whoever it is does not get in. The text is for them."""


class Bearer(Protocol):
    """A way to tell who may come in."""

    def check(self, token: str) -> None:
        """Raises Unauthorized where ``token`` is no good."""


@dataclass(frozen=True, slots=True)
class AuthOptions:
    """The options as they were given; None where they were not."""

    mode: str | None = None
    token_file: str | None = None
    token_sha256: str | None = None
    shared_secret_file: str | None = None
    issuer: str | None = None
    audience: str | None = None
    max_clock_skew_s: int | None = None

    @property
    def _for_tokens(self) -> bool:
        return (self.token_file, self.token_sha256) != (None, None)

    @property
    def _for_signed(self) -> bool:
        signed = (self.shared_secret_file, self.issuer, self.audience, self.max_clock_skew_s)
        return any(value is not None for value in signed)

    def bearer(self) -> Bearer | None:
        """What they ask for; None where they ask for nothing.

        Raises:
            BadAuth: they do not fit together, or name a file that is of no use.
        """
        if self.mode is None:
            if self._for_tokens or self._for_signed:
                raise BadAuth(
                    "websocket auth flags require `--ws-auth capability-token` or "
                    "`--ws-auth signed-bearer-token`"
                )
            return None
        return self._capability() if self.mode == "capability-token" else self._signed()

    def _capability(self) -> Bearer:
        if self._for_signed:
            raise BadAuth(
                "`--ws-shared-secret-file`, `--ws-issuer`, `--ws-audience`, and "
                "`--ws-max-clock-skew-seconds` require `--ws-auth signed-bearer-token`"
            )
        if self.token_file is not None and self.token_sha256 is not None:
            raise BadAuth("`--ws-token-file` and `--ws-token-sha256` are mutually exclusive")
        if self.token_file is not None:
            return CapabilityToken(hashlib.sha256(_read_secret(self.token_file)).digest())
        if self.token_sha256 is None:
            raise BadAuth(
                "`--ws-token-file` or `--ws-token-sha256` is required when "
                "`--ws-auth capability-token` is set"
            )
        if not _SHA256.fullmatch(self.token_sha256.strip()):
            raise BadAuth("--ws-token-sha256 must be a 64-character hex SHA-256 digest")
        return CapabilityToken(bytes.fromhex(self.token_sha256))

    def _signed(self) -> Bearer:
        if self._for_tokens:
            raise BadAuth(
                "`--ws-token-file` and `--ws-token-sha256` require `--ws-auth capability-token`, "
                "not `signed-bearer-token`"
            )
        if self.shared_secret_file is None:
            raise BadAuth(
                "`--ws-shared-secret-file` is required when `--ws-auth signed-bearer-token` is set"
            )
        secret = _read_secret(self.shared_secret_file)
        if len(secret) < _SECRET_BYTES:
            raise BadAuth(
                f"signed websocket bearer secret {self.shared_secret_file} must be at least "
                f"{_SECRET_BYTES} bytes"
            )
        skew_s = _SKEW_S if self.max_clock_skew_s is None else self.max_clock_skew_s
        return SignedBearer(secret, self.issuer or None, self.audience or None, skew_s)


def _read_secret(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            secret = file.read().strip()
    except OSError as error:
        raise BadAuth(f"failed to read websocket auth secret {path}: {error.strerror}") from error
    if not secret:
        raise BadAuth(f"websocket auth secret {path} must not be empty")
    return secret


def authorize(bearer: Bearer | None, header: str | None) -> None:
    """See that the value of an Authorization header lets its sender in.

    Raises:
        Unauthorized: it does not.
    """
    if bearer is None:
        return
    if header is None:
        raise Unauthorized("missing websocket bearer token")
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("invalid authorization header")
    bearer.check(token.strip())


@dataclass(frozen=True, slots=True)
class CapabilityToken:
    """Whoever has the token; only its SHA-256 is kept."""

    sha256: bytes

    def check(self, token: str) -> None:
        """See :class:`Bearer`."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        if not hmac.compare_digest(digest, self.sha256):
            raise Unauthorized("invalid websocket bearer token")


class _Header(msgspec.Struct, frozen=True):
    alg: str


class _Claims(msgspec.Struct, frozen=True):
    exp: int
    nbf: int | None = None
    iss: str | None = None
    aud: str | list[str] | None = None


@dataclass(frozen=True, slots=True)
class SignedBearer:
    """Whoever has a JSON Web Token signed with the secret (HS256), as long as it is valid."""

    secret: bytes
    issuer: str | None = None
    audience: str | None = None
    max_clock_skew_s: int = _SKEW_S
    now: Callable[[], float] = time.time

    def check(self, token: str) -> None:
        """See :class:`Bearer`."""
        claims = self._claims(token)
        now = self.now()
        if now > claims.exp + self.max_clock_skew_s:
            raise Unauthorized("expired websocket jwt")
        if claims.nbf is not None and now < claims.nbf - self.max_clock_skew_s:
            raise Unauthorized("websocket jwt is not valid yet")
        if self.issuer is not None and claims.iss != self.issuer:
            raise Unauthorized("websocket jwt issuer mismatch")
        audience = [claims.aud] if isinstance(claims.aud, str) else claims.aud or []
        if self.audience is not None and self.audience not in audience:
            raise Unauthorized("websocket jwt audience mismatch")

    def _claims(self, token: str) -> _Claims:
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        try:
            given = _decoded(signature)
            wanted = hmac.new(self.secret, signed.encode("ascii"), hashlib.sha256).digest()
            is_ours = hmac.compare_digest(given, wanted)
            if is_ours and decode_json(_decoded(header), _Header).alg == "HS256":
                return decode_json(_decoded(payload), _Claims)
        except (ValueError, *UNDECODABLE):
            pass
        raise Unauthorized("invalid websocket jwt")


def _decoded(text: str) -> bytes:
    """base64url without padding (RFC 7515, section 2)."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
