"""What a call may raise."""

from typing import Optional

from ._common import Code, Error


class QueuedError(Exception):
    """Base of all errors of this package."""


class Refused(QueuedError):
    """The cluster refused the request: nothing was changed."""

    def __init__(self, code: Code, message: str, similar: Optional[str] = None) -> None:
        hint = f' (did you mean "{similar}"?)' if similar else ""
        super().__init__(f"{code.name.lower()}: {message}{hint}")
        self.code = code
        self.similar = similar

    @classmethod
    def of(cls, error: Error) -> "Refused":
        return cls(error.code, error.message, error.similar)


class Unavailable(QueuedError):
    """Nobody was reached, or nobody led, in the time given: nothing was changed."""


class OutcomeUnknown(QueuedError):
    """The request was sent and its answer did not come in the time given: it may have been done, once."""


class Incompatible(QueuedError):
    """The other side does not speak this protocol, or belongs to another cluster."""


class Untrusted(QueuedError):
    """Somebody answered whom TLS does not trust: nothing was sent."""


class LeaseLost(QueuedError):
    """The lease of the message has ended: the message may have been given to somebody else."""


class TransactionFailed(QueuedError):
    """A condition did not hold or a step could not be done: nothing of the transaction was done."""

    def __init__(self, part: str, position: int, code: Code) -> None:
        super().__init__(f"{part} {position} of the transaction: {code.name.lower()}; nothing was done")
        self.part = part
        self.position = position
        self.code = code


class Reject(Exception):
    """Raised by a handler: the message is dead at once."""


class Release(Exception):
    """Raised by a handler: the message goes back without blame, after ``delay`` seconds."""

    def __init__(self, delay: float = 0) -> None:
        super().__init__(f"released for {delay} s")
        self.delay = delay
