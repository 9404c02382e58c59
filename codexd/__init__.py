"""codexd: a supervisor for `codex app-server`, built on circus."""

__version__ = "0.1.0"
