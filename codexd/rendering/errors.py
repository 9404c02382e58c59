"""What rendering says of values that cannot be rendered, for those who load no template."""

from __future__ import annotations


class CannotRender(ValueError):
    """A value that the target format cannot hold. The text is one line and names the value."""
