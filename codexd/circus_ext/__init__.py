"""Only what imports circus: plugin, hooks, watcher, arbiter, commands, circus client."""

from codexd.postpone import postpone

# For a configuration of its log in YAML, which nobody gives it here. In circusd it would be loaded
# before anything is started.
postpone("yaml")
# For the same of any kind, for HTML that tornado would write, and for hosts in brackets: of the
# memory that circus takes these are a megabyte in each process.
postpone("logging.config")
postpone("html")
postpone("ipaddress")
