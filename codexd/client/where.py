"""Which daemon a client asks, looked up anew for each call: it may have moved meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from codexd.client.address import Address, address_of_url

# Longer than the daemon itself waits for a server that is away.
PATIENCE_S: Final = 150.0
# No stream is silent for so long while its daemon lives.
SILENT_S: Final = 40.0
# Before a stream that broke off is asked for again.
RETRY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Where:
    """See :class:`codexd.client.sync.Client`."""

    repo_root: str | None = None
    state_dir: str | None = None
    socket_path: str | None = None
    url: str | None = None
    token: str | None = None
    ca_file: str | None = None

    def address(self) -> Address:
        """Where it is now.

        Raises:
            DaemonError: nothing says which one is meant.
        """
        if self.url is not None:
            return address_of_url(self.url, self.token, self.ca_file)
        if self.socket_path is not None:
            return Address(self.socket_path)
        from codexd.client.find import find_daemon

        place = find_daemon(repo_root=self.repo_root, state_dir=self.state_dir)
        return Address(place.hub_socket_path)
