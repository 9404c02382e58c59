"""Only what imports circus: plugin, hooks, watcher, arbiter, commands, circus client."""
