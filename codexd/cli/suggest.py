"""What somebody most likely meant who wrote a word that there is not."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question to put behind what is said of ``word``; empty where nothing is like it."""
    # Only who errs pays for it.
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), n=1)
    return f" Did you mean {found[0]}?" if found else ""
