"""The child's life as circusd sees it: command, pipes, steps, when the next may start."""
