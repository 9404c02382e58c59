"""Who a client says it is, and what it can do: `initialize`'s clientInfo and capabilities.

codexd introduces itself to the server once, for all of its clients.
"""

from __future__ import annotations

from typing import Any

import msgspec

from codexd.encoding import decode_json

# What makes MCP servers send forms that only some clients can show.
FORM_EXTENSION = "openai/form"


class ClientInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """clientInfo of `initialize`."""

    name: str
    version: str
    title: str | None = None


class Capabilities(msgspec.Struct, rename="camel", frozen=True):
    """capabilities of `initialize`; the last is of codex 0.169."""

    experimental_api: bool = False
    opt_out_notification_methods: list[str] | None = None
    extensions: dict[str, msgspec.Raw] | None = None
    mcp_server_openai_form_elicitation: bool = False
    request_attestation: bool = False
    explicit_gateway_oauth: bool = False
    required_human_approval: bool = False

    @property
    def shows_forms(self) -> bool:
        """Whether the client shows the forms of :data:`FORM_EXTENSION`."""
        declared = self.extensions or {}
        return self.mcp_server_openai_form_elicitation or FORM_EXTENSION in declared

    def merged(self, other: Capabilities) -> Capabilities:
        """What two clients can do together; the extensions' settings are the first one's."""
        return Capabilities(
            experimental_api=self.experimental_api or other.experimental_api,
            extensions={**(other.extensions or {}), **(self.extensions or {})} or None,
            mcp_server_openai_form_elicitation=self.mcp_server_openai_form_elicitation
            or other.mcp_server_openai_form_elicitation,
            request_attestation=self.request_attestation or other.request_attestation,
            explicit_gateway_oauth=self.explicit_gateway_oauth or other.explicit_gateway_oauth,
            required_human_approval=self.required_human_approval or other.required_human_approval,
        )

    def announced(self) -> dict[str, Any]:
        """As they go to the server, which speaks the experimental protocol with codexd."""
        flags = {
            "mcpServerOpenaiFormElicitation": self.mcp_server_openai_form_elicitation,
            "requestAttestation": self.request_attestation,
            "explicitGatewayOauth": self.explicit_gateway_oauth,
            "requiredHumanApproval": self.required_human_approval,
        }
        given: dict[str, Any] = {name: True for name, is_set in flags.items() if is_set}
        if self.extensions:
            given["extensions"] = self.extensions
        return {"experimentalApi": True, **given}

    def kept(self) -> Capabilities:
        """What still holds when the client has left: which forms MCP servers may send."""
        return Capabilities(
            extensions=self.extensions,
            mcp_server_openai_form_elicitation=self.mcp_server_openai_form_elicitation,
        )


class _Subject(msgspec.Struct):
    mode: str = ""
    kind: str = ""


def can_answer(capabilities: Capabilities, method: str | None, params: bytes) -> bool:
    """Whether the server would send this request to a client that can do so much."""
    if method in ("mcpServer/elicitation/request", "item/commandExecution/requestApproval"):
        try:
            subject = decode_json(params, _Subject)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return True
        needed = {
            "openai/form": capabilities.shows_forms,
            "openai/userVerification": capabilities.experimental_api,
            "humanCommand": capabilities.required_human_approval,
        }
        return needed.get(subject.mode, True) and needed.get(subject.kind, True)
    if method == "attestation/generate":
        return capabilities.request_attestation
    return method != "currentTime/read" or capabilities.experimental_api
