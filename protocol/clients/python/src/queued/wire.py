"""All requests and answers as they are on the wire, for ``Client.call`` and for what it answers."""

from . import _answer as answer
from . import _common as common
from . import _request as request

__all__ = ["answer", "common", "request"]
