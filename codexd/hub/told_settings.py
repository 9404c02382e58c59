"""The settings of a thread that a server forgets when it ends, though the thread has had turns.

codex 0.163 writes most of them down, also those that were changed later. But a change of the
sandbox may be written down with the next turn only, and until then a resume gives the thread that
of the configuration, which may allow more; the service tier and the summaries of reasoning are
written down nowhere (measured).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

# As `thread/settings/updated` names them.
_FORGOTTEN = ("activePermissionProfile", "sandboxPolicy", "serviceTier", "summary")
# What a resume may give itself, and which of them it decides then.
_GIVEN = {
    "permissions": ("activePermissionProfile", "sandboxPolicy"),
    "sandbox": ("activePermissionProfile", "sandboxPolicy"),
    "serviceTier": ("serviceTier",),
}


class Standing(msgspec.Struct, rename="camel", frozen=True):
    """How a thread stands, as the answer to whoever opens it says. Summaries it does not tell."""

    active_permission_profile: dict[str, Any] | None = None
    sandbox: dict[str, Any] | None = None
    service_tier: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """By the names of the settings."""
        values = (self.active_permission_profile, self.sandbox, self.service_tier)
        return dict(zip(_FORGOTTEN, values, strict=False))


@dataclass(slots=True)
class ToldSettings:
    """What a server has told last of one thread."""

    values: dict[str, Any] = field(default_factory=dict)

    def updated(self, settings: dict[str, Any]) -> bool:
        """The server tells how all settings are now; whether that changes anything here."""
        before = self.values
        self.values = {name: settings[name] for name in _FORGOTTEN if settings.get(name)}
        return self.values != before

    def stands(self, standing: Standing) -> None:
        """The server tells how some of them are."""
        self.updated({**self.values, **standing.settings})

    def to_set_again(self, standing: Standing, given: dict[str, Any]) -> dict[str, Any]:
        """The params of `thread/settings/update` in a new server, where ``standing`` is.

        ``given`` are the params of the request that has loaded the thread there.
        """
        decided = {name for param in _GIVEN if given.get(param) for name in _GIVEN[param]}
        now = standing.settings
        self.updated({**self.values, **{name: now[name] for name in decided}})
        params = {name: value for name, value in self.values.items() if value != now.get(name)}
        profile = params.pop("activePermissionProfile", None)
        if isinstance(profile, dict):
            # The sandbox is the profile's.
            params.pop("sandboxPolicy", None)
            params["permissions"] = profile.get("id")
        return params

    @classmethod
    def restored(cls, kept: Any) -> ToldSettings:
        """As an earlier hub has kept them."""
        told = cls()
        if isinstance(kept, dict):
            told.updated(cast("dict[str, Any]", kept))
        return told
