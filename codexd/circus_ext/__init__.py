"""Only what imports circus: plugin, hooks, watcher, arbiter, commands, circus client."""

from codexd.postpone import postpone

# For a configuration of its log in YAML, which nobody gives it here. In circusd it would be loaded
# before anything is started.
postpone("yaml")
