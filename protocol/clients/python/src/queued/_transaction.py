"""Several things or nothing."""

from typing import TYPE_CHECKING, List, Optional, Sequence, Union

from . import _answer, _crc32c, _request
from ._errors import TransactionFailed
from ._message import Message, NewMessage, PushResult, cut, milliseconds, push_results, spec_of

if TYPE_CHECKING:
    from ._core import Core


class Transaction:
    """Gathers conditions and steps; ``commit`` does all steps in their order if all conditions hold, or nothing."""

    def __init__(self, core: "Core") -> None:
        self._core = core
        self._conditions: List[_request.Condition] = []
        self._steps: List[_request.Step] = []
        self._contents: List[bytes] = []
        self._checksums: List[int] = []
        self._settles: List[Message] = []

    def require(self, condition: _request.Condition) -> "Transaction":
        """Does nothing unless this holds: ``Leased``, ``Exists``, ``AtMost``, ``Version``, ``NoDedupKey``."""
        self._conditions.append(condition)
        return self

    def push(self, queue: str, *messages: Union[bytes, NewMessage], create: bool = False) -> "Transaction":
        """Stores messages."""
        described = []
        for item in messages:
            message = item if isinstance(item, NewMessage) else NewMessage(item)
            content = message.content()
            checksum = _crc32c.crc32c(content)
            self._contents.append(content)
            self._checksums.append(checksum)
            described.append(_request.PushMessage(spec_of(content, checksum), message.options()))
        self._steps.append(_request.Push(queue, create, False, described))
        return self

    def ack(self, message: Message) -> "Transaction":
        """Settles a message."""
        self._settles.append(message)
        self._steps.append(_request.Ack(_receipt(message)))
        return self

    def fail(self, message: Message, error: str = "", delay: Optional[float] = None) -> "Transaction":
        """Counts a failure of a message."""
        self._settles.append(message)
        kind = _request.Fail(None if delay is None else milliseconds(delay), cut(error))
        self._steps.append(_request.Nack(_receipt(message), kind))
        return self

    def extend(self, message: Message, seconds: float) -> "Transaction":
        """Lets a lease end ``seconds`` from now."""
        self._steps.append(_request.ExtendReceipts(_receipt(message), milliseconds(seconds)))
        return self

    def edit(self, queue: str, ids: Sequence[int], change: _request.Change) -> "Transaction":
        """Changes messages by id."""
        self._steps.append(_request.Edit(queue, list(ids), change))
        return self

    async def commit(self) -> List[List[PushResult]]:
        """Does it: the results of each push. Raises ``TransactionFailed`` if nothing was done."""
        request = _request.Txn(self._conditions, self._steps)
        outcome = (await self._core.call(request, self._contents, self._checksums)).answer.value
        if isinstance(outcome, _answer.TxnFailed):
            part = "condition" if isinstance(outcome.at, _answer.AtCondition) else "step"
            raise TransactionFailed(part, outcome.at.value, outcome.code)
        for message in self._settles:
            message.end()
        return [push_results(part.value) for part in outcome.value if isinstance(part, _answer.Pushed)]


def _receipt(message: Message) -> _request.Receipts:
    return _request.Receipts(message.queue, [message.receipt])
