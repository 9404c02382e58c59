"""Clients that other people wrote, with and without codexd: `python -m tests.clients`."""
