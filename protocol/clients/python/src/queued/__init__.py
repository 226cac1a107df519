"""Client of queued, a durable and replicated work queue.

``queued.connect(servers)`` is for asyncio, ``queued.SyncClient(servers)`` blocks, ``@queued.worker(queue)`` makes a worker
of a function. What is named here is loaded when it is first used, so that importing the package costs next to nothing.
"""

# Not from typing: that alone takes longer than all the rest. Type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import wire as wire
    from ._client import Client as Client
    from ._client import connect as connect
    from ._common import CatchUp as CatchUp
    from ._common import Code as Code
    from ._common import Cron as Cron
    from ._common import Every as Every
    from ._common import Once as Once
    from ._common import OnExpiry as OnExpiry
    from ._common import OnFull as OnFull
    from ._common import OnPoison as OnPoison
    from ._common import Skip as Skip
    from ._common import State as State
    from ._consumer import Consumer as Consumer
    from ._errors import Incompatible as Incompatible
    from ._errors import LeaseLost as LeaseLost
    from ._errors import OutcomeUnknown as OutcomeUnknown
    from ._errors import QueuedError as QueuedError
    from ._errors import Refused as Refused
    from ._errors import Reject as Reject
    from ._errors import Release as Release
    from ._errors import TransactionFailed as TransactionFailed
    from ._errors import Unavailable as Unavailable
    from ._errors import Untrusted as Untrusted
    from ._message import Message as Message
    from ._message import MessageData as MessageData
    from ._message import NewMessage as NewMessage
    from ._message import PushResult as PushResult
    from ._request import Held as Held
    from ._sync import SyncClient as SyncClient
    from ._sync import SyncMessage as SyncMessage
    from ._tls import Tls as Tls
    from ._transaction import Transaction as Transaction
    from ._worker import Worker as Worker
    from ._worker import run_workers as run_workers
    from ._worker import worker as worker

__version__ = "0.1.0"

_FROM = {
    "connect": "_client",
    **dict.fromkeys(["Client"], "_client"),
    **dict.fromkeys(
        ["CatchUp", "Code", "Cron", "Every", "Once", "OnExpiry", "OnFull", "OnPoison", "Skip", "State"], "_common"
    ),
    "Consumer": "_consumer",
    **dict.fromkeys(
        [
            "Incompatible", "LeaseLost", "OutcomeUnknown", "QueuedError", "Refused", "Reject", "Release",
            "TransactionFailed", "Unavailable", "Untrusted",
        ],
        "_errors",
    ),
    **dict.fromkeys(["Message", "MessageData", "NewMessage", "PushResult"], "_message"),
    "Held": "_request",
    **dict.fromkeys(["SyncClient", "SyncMessage"], "_sync"),
    "Tls": "_tls",
    "Transaction": "_transaction",
    **dict.fromkeys(["Worker", "run_workers", "worker"], "_worker"),
}  # fmt: skip

__all__ = ["wire", *_FROM]


def __getattr__(name: str) -> "Any":
    import importlib

    if name == "wire":
        return importlib.import_module(".wire", __name__)
    module = _FROM.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    return sorted(__all__)
