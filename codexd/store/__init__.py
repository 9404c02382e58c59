"""The state files."""
