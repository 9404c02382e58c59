"""One thin click command a module."""
