"""What a shell sets that changes what the server does, for a service that has another environment.

A service file may be read by others and is kept in backups: no secret goes into it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from codexd.codex_home import codex_home
from codexd.platform.files import read_users

# Far above what anybody writes by hand.
_MAX_BYTES = 1 << 20

# Read by codex itself, by the programs that it starts, or by codexd.
_PATHS = (
    "CODEX_HOME",
    "CODEX_SQLITE_HOME",
    "CODEX_CA_CERTIFICATE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_URLS = (*_PROXIES, *(name.lower() for name in _PROXIES), "OPENAI_BASE_URL")
_PLAIN = (
    "NO_PROXY",
    "no_proxy",
    "OPENAI_ORGANIZATION",
    "OPENAI_PROJECT",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
)
_SECRETS = (
    "OPENAI_API_KEY",
    "CODEX_API_KEY",
    "CODEX_ACCESS_TOKEN",
    "CODEX_GITHUB_PERSONAL_ACCESS_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_BEARER_TOKEN_BEDROCK",
)


def kept_variables(environ: Mapping[str, str], *, cwd: str) -> dict[str, str]:
    """The variables of ``environ`` that a service gets too; blank ones count as unset.

    Paths are made absolute: the service runs in another directory.
    """
    paths = {name: os.path.join(cwd, environ[name]) for name in _PATHS if _is_set(environ, name)}
    urls = {name: environ[name] for name in _URLS if _is_set(environ, name)}
    plain = {name: environ[name] for name in _PLAIN if _is_set(environ, name)}
    return {**paths, **{n: url for n, url in urls.items() if not _has_password(url)}, **plain}


def secret_names(environ: Mapping[str, str], *, cwd: str) -> list[str]:
    """The variables of ``environ`` that the server may need and that no service file may hold.

    Those that everybody has, and those that the user's own config.toml names.
    """
    urls = [name for name in _URLS if _has_password(environ.get(name, ""))]
    wanted = [*_SECRETS, *urls, *_named_in_configuration(environ, cwd)]
    kept = kept_variables(environ, cwd=cwd)
    # Each once, in this order.
    return [name for name in dict.fromkeys(wanted) if _is_set(environ, name) and name not in kept]


def _is_set(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip() != ""


def _has_password(url: str) -> bool:
    try:
        # curl and its like also take a proxy without a scheme.
        return urlsplit(url if "://" in url else f"//{url}").password is not None
    except ValueError:
        return "@" in url


def _named_in_configuration(environ: Mapping[str, str], cwd: str) -> list[str]:
    try:
        text = read_users(os.path.join(codex_home(environ, cwd=cwd), "config.toml"), _MAX_BYTES)
        names = list(_references(tomllib.loads(text.decode())))
    except (OSError, ValueError, RecursionError):
        # codex itself says what is wrong with it.
        return []
    return [name for name in names if name not in ("PATH", "HOME")]


def _references(table: Mapping[str, Any]) -> Iterator[str]:
    """Names of variables, where codex's configuration has them: model providers, MCP servers."""
    for key, value in table.items():
        if key in ("env_key", "bearer_token_env_var") and isinstance(value, str):
            yield value
        elif key == "env_http_headers" and isinstance(value, Mapping):
            yield from (name for name in value.values() if isinstance(name, str))
        elif key == "env_vars" and isinstance(value, list):
            yield from (name for name in value if isinstance(name, str))
        elif isinstance(value, Mapping):
            yield from _references(value)
