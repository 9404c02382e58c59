"""Pieces of requests, whole and broken, that tests put together in any order."""

from __future__ import annotations

HTTP_WORDS = (
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /three HTTP/1.1\r\nHost: x\r\n\r\n",
    b'POST /back/a HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{"text":"w"}',
    b"POST /back/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b'c\r\n{"text":"w"}\r\n0\r\n\r\n',
    b"POST /back/%2e%2e%2fa HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"Upgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //healthz?a=%ff&a=%00&=&&since HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"ffffffffffffffff\r\n",
    b"X: " + b"y" * 5000 + b"\r\n",
    b" folded: line\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\x00",
    b"\x81\x85\x00\x00\x00\x00hello",
    b"\x16\x03\x01\x02\x00\x01\x00",
    "ü".encode(),
)
