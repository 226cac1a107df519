"""Every client-facing frame of ``vectors.json``: decoded, compared with what the reference implementation prints, encoded."""

import json
import re
import typing
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Dict, Iterator, List, Union

import pytest

from queued import _answer, _common, _crc32c, _frame, _postcard, _request

VECTORS = json.loads((Path(__file__).parents[3] / "vectors.json").read_text())
HEADERS: Dict[int, Any] = {
    _frame.HELLO: _common.HelloMessage,
    _frame.REQUEST: _request.Call,
    _frame.RESPONSE: _answer.Response,
    _frame.GOODBYE: _common.Goodbye,
}
NO_MESSAGE = {_frame.PING: "Ping", _frame.PONG: "Pong", _frame.CANCEL: "Cancel"}
#: Classes that are named otherwise in the reference implementation.
NAMES = {
    "HelloRefused": "Refused", "OfReceipts": "Receipts", "OfSession": "Session", "MoveTo": "Move",
    "ExtendReceipts": "Extend", "SettledAnswer": "Settled", "QueuesAnswer": "Queues", "StatusAnswer": "Status",
    "StatsAnswer": "Stats", "EditedAnswer": "Edited", "StepExtended": "Extended", "StepDone": "Done", "TxnDone": "Done",
    "TxnFailed": "Failed", "TxnAnswer": "Txn", "AtCondition": "Condition", "AtStep": "Step", "AgeNow": "Now",
    "AgeAtMostMs": "AtMostMs", "AgeUnknown": "Unknown", "SchedulesAnswer": "Schedules", "GroupsAnswer": "Groups",
    "ClientsAnswer": "Clients", "SlowAnswer": "Slow", "WhoamiAnswer": "Whoami", "CanAnswer": "Can", "PrincipalsAnswer": "Principals",
    "GrantMore": "Grant", "RevokeGrants": "Revoke", "LoginProof": "Login",
    "RootSecret": "Secret", "ActorPrincipal": "Principal",
}  # fmt: skip
#: Structs inside of a variant of another name, and types around a single number.
SILENT = {"SessionId", "Level", "KeyId", "Verbs"}
#: Bytes that are shown as numbers.
BYTES = (_postcard.Magic, _postcard.Bytes8, _postcard.Bytes10, _postcard.Bytes16, _postcard.Bytes32, _common.CredentialBytes)
TOKEN = re.compile(r'b"(?:[^"\\]|\\.)*"|"(?:[^"\\]|\\.)*"|[0-9a-f]{32}|-?\d+|[A-Za-z_]\w*:?')


def tokens_of_text(text: str) -> List[str]:
    return squeezed(token for token in TOKEN.findall(text) if token not in {"Some", *SILENT})


def squeezed(tokens: "Iterator[str]") -> List[str]:
    """A variant around a struct of its name is one name."""
    out: List[str] = []
    for token in tokens:
        name = token[:-4] if token.endswith("View") else token
        if not (out and name[0].isupper() and out[-1] == name):
            out.append(name)
    return out


def tokens_of(annotation: Any, value: Any) -> "Iterator[str]":
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if _postcard.QueueOrNone in arguments and value == "":
        yield "None"
    elif origin is Annotated and isinstance(value, list):
        for item in value:
            yield from tokens_of(typing.get_args(arguments[0])[0], item)
    elif origin is Annotated and annotation is _postcard.U128:
        yield f"{value:032x}"
    elif origin is Annotated and isinstance(value, bytes):
        if annotation in BYTES or not value:
            yield from map(str, value)
        else:
            yield f'b"{value.decode()}"'
    elif isinstance(value, IntEnum) and value.name.startswith("OTHER_"):
        yield from ("Other", str(int(value)))
    elif isinstance(value, IntEnum):
        yield "".join(part.capitalize() for part in value.name.split("_"))
    elif isinstance(value, str):
        yield f'"{value}"'
    elif value is None:
        yield "None"
    elif origin is Union:
        inner = [argument for argument in arguments if argument is not type(None)]
        yield from tokens_of(type(value) if len(inner) > 1 else inner[0], value)
    elif isinstance(value, bool):
        yield str(value).lower()
    elif isinstance(value, int):
        yield str(value)
    elif origin is tuple:
        for argument, part in zip(arguments, value):
            yield from tokens_of(argument, part)
    else:
        name = type(value).__name__
        if NAMES.get(name, name) not in SILENT:
            yield NAMES.get(name, name)
        hints = typing.get_type_hints(type(value), include_extras=True)
        for field in value._fields:
            if field != "value":
                yield f"{field.rstrip('_')}:"
            yield from tokens_of(hints[field], getattr(value, field))


#: Names of vectors that only nodes send to each other.
OF_NODES = ("peer_", "hello/proof/")


def ours() -> List[Any]:
    return [frame for frame in VECTORS["frames"] if not frame["name"].startswith(OF_NODES)]


@pytest.mark.parametrize("vector", ours(), ids=lambda vector: str(vector["name"]))
def test_frame(vector: Dict[str, str]) -> None:
    data = bytes.fromhex(vector["bytes"])
    assert _frame.size_of(data, 0, _frame.SIZE_MAX) == len(data)
    frame = _frame.unpack(data).check()
    if frame.kind in NO_MESSAGE:
        assert vector["name"] == NO_MESSAGE[frame.kind].lower()
        again = b""
    else:
        annotation = HEADERS[frame.kind]
        message = _postcard.decode(annotation, frame.header)
        expected = tokens_of_text(vector["message"])
        if frame.kind == _frame.GOODBYE:
            expected = expected[2:]
        assert squeezed(tokens_of(annotation, message)) == expected
        again = bytes(_postcard.encode(annotation, message))
    tail = [frame.tail] if frame.tail else []
    checksums = [_crc32c.crc32c(piece) for piece in tail]
    packed = _frame.pack(frame.request_id, frame.kind, again, tail, checksums, frame.more)
    assert b"".join(packed).hex() == vector["bytes"]


@pytest.mark.parametrize("vector", VECTORS["bad_frames"], ids=lambda vector: str(vector["name"]))
def test_bad_frame(vector: Dict[str, str]) -> None:
    data = bytes.fromhex(vector["bytes"])
    most = _frame.HELLO_SIZE_MAX - 4 if vector["phase"] == "hello" else _frame.SIZE_MAX
    with pytest.raises((_frame.FrameError, _postcard.DecodeError)) as refusal:
        if len(data) < (4 if vector["phase"] == "hello" else _frame.HEAD_SIZE) and vector["error"] == "Truncated":
            raise _frame.FrameError("cut short")
        frame = _frame.unpack(data[: _frame.size_of(data, 0, most)]).check()
        _postcard.decode(HEADERS[frame.kind], frame.header)
    expected = {
        "TooBig": "at most", "TooSmall": "too small", "HeaderSize": "in a frame of", "Checksum": "checksum",
        "Kind": "no kind", "Flags": "flags", "Zero": "not zero", "NotEmpty": "mean nothing", "Trailing": "left over",
        "Truncated": "cut short",
    }  # fmt: skip
    error = vector["error"].split("(")[0].split(" ")[0]
    if error in expected:
        assert expected[error] in str(refusal.value)


def test_every_request_and_answer_has_a_vector() -> None:
    seen = set()
    for vector in ours():
        frame = _frame.unpack(bytes.fromhex(vector["bytes"])).check()
        if frame.kind == _frame.REQUEST:
            seen.add(type(_postcard.decode(_request.Call, frame.header).request))
        if frame.kind == _frame.RESPONSE:
            result = _postcard.decode(_answer.Response, frame.header).result
            seen.add(type(result.value))
    assert seen >= set(typing.get_args(_request.Request)) | set(typing.get_args(_answer.Answer))
