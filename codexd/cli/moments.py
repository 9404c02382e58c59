"""Moments as people give them: how long ago, or when; of events, the number of one, too."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final

import click

from codexd.cli.options import BadValue
from codexd.clock import iso
from codexd.settings import SettingError, parse_integer, quoted

_AGO: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(s|m|h|d|w)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_OF_TODAY: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")
_HINT: Final = "10m, 2h, 3d, 14:30 or 2026-11-25T14:30"


class Moment(click.ParamType[str]):
    """A time, as the logs hold it: ISO 8601 in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The time; BadValue names the option."""
        del ctx
        moment = read_moment(str(value).strip(), datetime.now().astimezone())
        if moment is None:
            raise BadValue(f"Invalid value {quoted(str(value))}{_of(param)}: use {_HINT}.")
        return moment


class SeqOrMoment(click.ParamType["int | str"]):
    """The number of an event, or a time."""

    name = "seq or time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """The number, or the time as the logs hold it; BadValue names the option."""
        del ctx
        text = str(value).strip()
        moment = read_moment(text, datetime.now().astimezone())
        if moment is not None:
            return moment
        try:
            return parse_integer(text, "")
        except SettingError:
            text = f"Invalid value {quoted(str(value))}{_of(param)}"
            raise BadValue(f"{text}: use the number of an event, or {_HINT}.") from None


def _of(param: click.Parameter | None) -> str:
    return f" ({param.opts[-1]})" if param else ""


def read_moment(text: str, now: datetime) -> str | None:
    """A time as the logs hold it; None where ``text`` is none. Without a zone it is local."""
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return iso(now - timedelta(seconds=float(ago[1]) * _UNITS[ago[2]]))
        if _OF_TODAY.fullmatch(text):
            text = f"{now:%Y-%m-%d}T{text.zfill(8 if text.count(':') > 1 else 5)}"
        elif "-" not in text.strip("-"):
            # A number of an event, and not a date in ISO 8601's basic form.
            return None
        return iso(datetime.fromisoformat(text).astimezone())
    except (ValueError, OverflowError):
        return None
