"""Whether what was told of the TCP listener goes together."""

from __future__ import annotations

from codexd.address import parse_address
from codexd.settings import Policy


class BadListener(OSError):
    """The settings of the listener cannot be used together. The text is one line for the user."""


def check_settings(policy: Policy) -> None:
    """See that what was told of the listener goes together, and that TLS is possible.

    Raises:
        BadListener, codexd.tls.BadTls: with one line for the user.
    """
    if not policy.hub_listen:
        return
    address = parse_address(policy.hub_listen)
    if bool(policy.hub_tls_cert) != bool(policy.hub_tls_key):
        raise BadListener("--hub-tls-cert and --hub-tls-key go together: give both.")
    if not (address.is_loopback or policy.hub_tls_cert or policy.hub_allow_plaintext):
        raise BadListener(
            f"Other machines reach --hub-listen {address}: give --hub-tls-cert and --hub-tls-key; "
            "or where something else encrypts (WireGuard, say), --hub-allow-plaintext true."
        )
    if policy.hub_tls_cert:
        # Loaded where there is TLS.
        from codexd.tls import Tls

        Tls(policy.hub_tls_cert, policy.hub_tls_key)
