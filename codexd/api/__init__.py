"""The server on codexd.sock: WebSocket and HTTP."""
