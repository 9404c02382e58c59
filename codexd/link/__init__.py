"""The one connection to the child: endpoint, transports, handshake."""
