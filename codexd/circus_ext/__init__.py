"""Only what imports circus: plugin, hooks, watcher, arbiter, commands, circus client."""

from codexd.postpone import postpone


class _NoSocket:
    """What asyncio asks of each socket whether it is: before ssl is loaded, none is."""


# For a configuration of its log in YAML, which nobody gives it here. In circusd it would be loaded
# before anything is started.
postpone("yaml")
# For the same of any kind, for HTML that tornado would write, and for hosts in brackets: of the
# memory that circus takes these are a megabyte in each process.
postpone("logging.config")
postpone("html")
postpone("ipaddress")
# The same for its log on a terminal in colours, or in files that it rotates itself, for archives,
# and for sockets through SSH: of the time that loading takes, a twentieth.
postpone("curses")
postpone("logging.handlers")
postpone("bz2")
postpone("lzma")
postpone("zmq.ssh")
# Only a TCP listener with a certificate has TLS, and OpenSSL's tables are large.
postpone("ssl", SSLSocket=_NoSocket)
postpone("asyncio.sslproto")
