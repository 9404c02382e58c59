"""Whom `--ws-auth` lets in; the values are what codex 0.163 and 0.169 say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from codexd.client.bearer import (
    AuthOptions,
    BadAuth,
    CapabilityToken,
    SignedBearer,
    Unauthorized,
    authorize,
)

SECRET = b"a secret of more than thirty-two bytes"
NOW = 1_800_000_000
TOKEN = CapabilityToken(hashlib.sha256(b"token").digest())
SIGNED = SignedBearer(SECRET, now=lambda: NOW)
STRICT = SignedBearer(SECRET, "iss", "aud", 5, now=lambda: NOW)


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def jwt(claims: Any, *, key: bytes = SECRET, alg: str = "HS256") -> str:
    signed = b64(json.dumps({"alg": alg, "typ": "JWT"}).encode()) + b"."
    signed += b64(json.dumps(claims).encode())
    return (signed + b"." + b64(hmac.new(key, signed, hashlib.sha256).digest())).decode()


def refusal(bearer: Any, header: str | None) -> str | None:
    try:
        authorize(bearer, header)
    except Unauthorized as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (None, "missing websocket bearer token"),
        ("Bearer other", "invalid websocket bearer token"),
        ("Bearer token", None),
        ("bearer   token  ", None),
        ("Basic token", "invalid authorization header"),
        ("token", "invalid authorization header"),
        ("Bearer tok\xe9n", "invalid websocket bearer token"),
    ],
)
def test_a_capability_token(header: str | None, said: str | None) -> None:
    assert refusal(TOKEN, header) == said


def test_without_auth_everybody_comes_in() -> None:
    assert refusal(None, None) is None


BAD = "invalid websocket jwt"


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (jwt({"exp": NOW + 60}), None),
        (jwt({"exp": NOW - 29}), None),
        (jwt({"exp": NOW - 31}), "expired websocket jwt"),
        (jwt({"exp": NOW + 60, "nbf": NOW + 29, "aud": ["x"], "iss": "x"}), None),
        (jwt({"exp": NOW + 60, "nbf": NOW + 31}), "websocket jwt is not valid yet"),
        (jwt({}), BAD),
        (jwt({"exp": str(NOW + 60)}), BAD),
        (jwt({"exp": NOW + 60.5}), BAD),
        (jwt([NOW]), BAD),
        (jwt({"exp": NOW + 60}, key=b"x" * 40), BAD),
        (jwt({"exp": NOW + 60}, alg="HS512"), BAD),
        (jwt({"exp": NOW + 60}, alg="none"), BAD),
        (jwt({"exp": NOW + 60}) + "x", BAD),
        (jwt({"exp": NOW + 60}).rpartition(".")[0] + ".", BAD),
        ("", "invalid authorization header"),
        ("a.b", BAD),
        ("\xe9.\xe9.\xe9", BAD),
    ],
)
def test_a_signed_token(token: str, said: str | None) -> None:
    assert refusal(SIGNED, f"Bearer {token}") == said


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"iss": "iss", "aud": "aud"}, None),
        ({"iss": "iss", "aud": ["z", "aud"]}, None),
        ({"iss": "x", "aud": "aud"}, "websocket jwt issuer mismatch"),
        ({"aud": "aud"}, "websocket jwt issuer mismatch"),
        ({"iss": "iss", "aud": "x"}, "websocket jwt audience mismatch"),
        ({"iss": "iss"}, "websocket jwt audience mismatch"),
        ({"iss": "iss", "aud": "aud", "exp": NOW - 6}, "expired websocket jwt"),
    ],
)
def test_whose_and_for_whom_a_signed_token_is(claims: dict[str, Any], said: str | None) -> None:
    assert refusal(STRICT, f"Bearer {jwt({'exp': NOW + 60, **claims})}") == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"token_file": "token"}, "require `--ws-auth"),
        ({"issuer": "x"}, "require `--ws-auth"),
        ({"mode": "capability-token"}, "`--ws-token-file` or `--ws-token-sha256` is required"),
        ({"mode": "capability-token", "token_file": "none"}, "failed to read"),
        ({"mode": "capability-token", "token_file": "empty"}, "must not be empty"),
        ({"mode": "capability-token", "token_sha256": "zz"}, "64-character hex"),
        ({"mode": "capability-token", "token_file": "token", "issuer": "x"}, "signed-bearer"),
        (
            {"mode": "capability-token", "token_file": "token", "token_sha256": "0" * 64},
            "mutually exclusive",
        ),
        ({"mode": "signed-bearer-token"}, "`--ws-shared-secret-file` is required"),
        ({"mode": "signed-bearer-token", "shared_secret_file": "token"}, "at least 32 bytes"),
        (
            {"mode": "signed-bearer-token", "shared_secret_file": "long", "token_file": "token"},
            "require `--ws-auth capability-token`",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("token", "token\n"), ("empty", " \n"), ("long", "x" * 32)):
        (tmp_path / name).write_text(text)
    with pytest.raises(BadAuth) as refused:
        AuthOptions(**given).bearer()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_options_that_fit_let_the_right_one_in(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"  token\n")
    digest = hashlib.sha256(b"token").hexdigest().upper()
    for options in (
        AuthOptions(mode="capability-token", token_file=str(file)),
        AuthOptions(mode="capability-token", token_sha256=digest),
    ):
        bearer = options.bearer()
        assert refusal(bearer, "Bearer token") is None
        assert refusal(bearer, "Bearer other") is not None
    file.write_bytes(SECRET + b"\n")
    signed = AuthOptions(mode="signed-bearer-token", shared_secret_file=str(file), issuer="")
    assert refusal(signed.bearer(), f"Bearer {jwt({'exp': 4_000_000_000})}") is None
    assert AuthOptions().bearer() is None
