"""Whatever is typed or set: a configuration, or one line that says what is wrong."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexd.clock import from_epoch
from codexd.config import Config, format_text, resolve
from codexd.encoding import encode_json
from codexd.rendering import CannotRender, render_circus_ini, render_plist, render_systemd
from codexd.settings import (
    LARGEST,
    LONGEST_MS,
    SETTINGS,
    SettingError,
    parse_arguments,
    parse_integer,
    parse_seconds,
    quoted,
)

DIGITS = st.text("0123456789", min_size=1, max_size=30)
NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    DIGITS.map(lambda digits: digits * 300),
    st.sampled_from(["²", "٣", "1e400", "-0", "0x" + "f" * 5000, "1_000", "1e23", "+7", " 8 "]),
)
ARGUMENTS = st.one_of(
    st.lists(st.text(), max_size=4).map(json.dumps),
    st.sampled_from(["[" * 10_000, '["\\ud800"]', '["\\u0000"]', "[1]", "[", '[["a"]]', "{}"]),
)
# Any bytes, as the system hands them to Python; a text of its own may hold a NUL besides.
TEXTS = st.one_of(
    NUMBERS, ARGUMENTS, st.text(), st.binary(max_size=40).map(os.fsdecode), st.just("")
)


@given(
    st.dictionaries(st.sampled_from([s.name for s in SETTINGS if not s.repeated]), TEXTS),
    st.dictionaries(st.sampled_from([name for s in SETTINGS for name in s.env]), TEXTS),
    st.lists(st.text().filter(lambda text: "\0" not in text), max_size=3),
)
def test_any_text_gives_a_configuration_or_one_line(
    flags: dict[str, str], environ: dict[str, str], arguments: list[str]
) -> None:
    config, refusal = None, ""
    try:
        config = resolve({**flags, "server_args": tuple(arguments)}, environ, cwd="/repo")
    except SettingError as error:
        refusal = str(error)
    assert len(refusal.splitlines()) == (config is None)
    assert len(refusal) < 300
    if config is not None:
        can_be_shown(config)


def can_be_shown(config: Config) -> None:
    json.loads(encode_json(config))
    format_text(config)
    with contextlib.suppress(CannotRender):
        render_circus_ini(config)
    with contextlib.suppress(CannotRender):
        render_plist(config, home="/home", label="x", program=None)
    with contextlib.suppress(CannotRender):
        render_systemd(config, home="/home", program=None)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("1e2", 100),
        ("0x10", 16),
        ("7.0", 7),
        ("0" * 5000 + "7", 7),
        ("-0", 0),
        (str(10**23), LARGEST),
        ("9" * 308, LARGEST),
        ("1e300", LARGEST),
    ],
)
def test_a_whole_number_may_have_any_size(text: str, number: int) -> None:
    assert parse_integer(text, "x") == number


@pytest.mark.parametrize(
    "text", ["-1", "9" * 309, "-" + "9" * 5000, "²", "1.5", "1e400", "nan", "inf", "x"]
)
def test_what_is_no_whole_number_is_named(text: str) -> None:
    with pytest.raises(SettingError, match="x"):
        parse_integer(text, "x")


def test_no_time_is_longer_than_a_clock_can_tell() -> None:
    for setting in SETTINGS:
        if setting.name.endswith("_ms"):
            assert setting.parse(str(10**40), "x") == LONGEST_MS
    assert from_epoch(datetime(2100, 1, 1, tzinfo=UTC).timestamp() + LONGEST_MS / 1000)


@pytest.mark.parametrize("text", ["[" * 10_000, '["\\ud800"]', '["a\\u0000b"]', "[1]", '["a"'])
def test_arguments_that_no_program_can_be_given_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match="JSON array of strings"):
        parse_arguments(text, "x")


def test_an_argument_of_any_other_kind_is_taken() -> None:
    assert parse_arguments('["a b", "", "--", "ü", "\\ud83d\\ude00"]', "x") == [
        "a b",
        "",
        "--",
        "ü",
        "\N{GRINNING FACE}",
    ]


def test_what_is_quoted_stays_on_one_line_of_a_terminal() -> None:
    assert quoted("plain") == '"plain"'
    assert quoted("a\nb\x1b[2J\u2028\x9b\udcff") == r'"a\nb\x1b[2J\u2028\x9b\udcff"'
    assert quoted("x" * 500) == f'"{"x" * 160}…"'


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("-0", 0.0), (" .5 ", 0.5), ("1e2", 100.0), ("1e308", LONGEST_MS / 1000)],
)
def test_seconds_may_be_many(text: str, seconds: float) -> None:
    assert parse_seconds(text, "x") == seconds


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "-1", "²", "", "1_0", "0x10", "ten"])
def test_what_is_no_time_is_named(text: str) -> None:
    with pytest.raises(SettingError, match="--timeout"):
        parse_seconds(text, "--timeout")


@pytest.mark.parametrize(
    ("text", "value"), [("", ""), (" [::1]:0 ", "[::1]:0"), ("127.0.0.1:080", "127.0.0.1:80")]
)
def test_where_to_listen(text: str, value: str) -> None:
    assert resolve({"hub_listen": text}, {}, cwd="/").policy.hub_listen == value


def test_where_one_cannot_listen_is_named() -> None:
    with pytest.raises(SettingError, match=r'"8765" \(--hub-listen\): use HOST:PORT'):
        resolve({"hub_listen": "8765"}, {}, cwd="/")


def test_paths_of_the_policy_are_below_where_they_were_given() -> None:
    config = resolve({"hub_tls_cert": "x/../c.pem"}, {"BAA_CODEXD_HUB_TOKEN_FILE": "/t"}, cwd="/a")
    assert (config.policy.hub_tls_cert, config.policy.hub_token_file) == ("/a/c.pem", "/t")
    assert config.policy.hub_read_token_file == ""
