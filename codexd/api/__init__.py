"""The server: WebSocket and HTTP, on codexd.sock and where asked for on TCP."""
