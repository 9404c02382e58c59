"""What can go wrong between codexd and the child. Each text is one sentence for the log."""

from __future__ import annotations


class LinkError(ConnectionError):
    """The child cannot be spoken to."""


class LinkLost(LinkError):
    """The connection is not there, or went away while an answer was awaited."""


class LinkRefused(LinkError):
    """Something answers at the endpoint, but will not speak: trying again is of no use."""


class LinkUnauthorized(LinkRefused):
    """The child lives, and wants a token that codexd does not have: a new one would, too."""


class LinkTimeout(LinkError, TimeoutError):
    """The child did not answer in time."""


class RequestFailed(LinkError):
    """The child answered one of codexd's own requests with an error."""

    def __init__(self, method: str, code: int, text: str) -> None:
        super().__init__(f"The server answered {method} with error {code}: {text}")
        self.code = code
        self.text = text


class MessageTooLong(LinkError):
    """The child's transport would close the connection over a message of this size."""


class NotReading(LinkError):
    """The child has left so much unread that nothing more is kept for it."""
