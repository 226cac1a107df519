"""Codecs of postcard, made from the annotations of the classes in ``_request``, ``_answer`` and ``_common``.

A message is a ``NamedTuple`` whose annotations say how its fields look on the wire, so the table of a message and its
Python type are one thing. ``Optional`` is an option, ``Union`` an enum whose variants count in the order written, an
``IntEnum`` an enum without fields.
"""

import typing
from enum import IntEnum
from typing import Annotated, Any, Callable, Dict, List, NamedTuple, Tuple, Union

Encode = Callable[[bytearray, Any], None]
Decode = Callable[[bytes, int], Tuple[Any, int]]


class DecodeError(ValueError):
    """The bytes are not a message of the type that was expected."""


class Codec(NamedTuple):
    """How values of one type become bytes and come back."""

    encode: Encode
    decode: Decode


class Max(NamedTuple):
    """Bounds of a list, of bytes or of a text: items or bytes."""

    most: int
    least: int = 0


class _Mark:
    """How a type without structure is written. Compared by identity: two marks of one size are not the same."""

    def __init__(self, make: Callable[[Any], Codec]) -> None:
        self.make = make


QUEUE_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def put_varint(out: bytearray, value: int) -> None:
    """Appends ``value``, seven bits a byte, low ones first."""
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def get_varint(data: bytes, at: int, bits: int) -> Tuple[int, int]:
    """A number of at most ``bits`` bits at ``at``, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(data):
            raise DecodeError("the message ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
        if shift >= bits:
            raise DecodeError("a number has too many bytes")
    if value >> bits:
        raise DecodeError("a number is too large")
    return value, at


def _number(bits: int) -> Codec:
    def encode(out: bytearray, value: int) -> None:
        if 0 <= value < 128:
            out.append(value)
            return
        if value < 0 or value >> bits:
            raise ValueError(f"{value} is not a number of {bits} bits")
        put_varint(out, value)

    def decode(data: bytes, at: int) -> Tuple[int, int]:
        if at < len(data) and data[at] < 128:
            return data[at], at + 1
        return get_varint(data, at, bits)

    return Codec(encode, decode)


def _zigzag(bits: int) -> Codec:
    def encode(out: bytearray, value: int) -> None:
        put_varint(out, (value << 1 ^ value >> bits) & (1 << bits) - 1)

    def decode(data: bytes, at: int) -> Tuple[int, int]:
        value, at = get_varint(data, at, bits)
        return value >> 1 ^ -(value & 1), at

    return Codec(encode, decode)


def _byte() -> Codec:
    def encode(out: bytearray, value: int) -> None:
        if not 0 <= value < 256:
            raise ValueError(f"{value} is not a number of 8 bits")
        out.append(value)

    def decode(data: bytes, at: int) -> Tuple[int, int]:
        if at >= len(data):
            raise DecodeError("the message ends within a number")
        return data[at], at + 1

    return Codec(encode, decode)


def _bool() -> Codec:
    def encode(out: bytearray, value: bool) -> None:
        out.append(1 if value else 0)

    def decode(data: bytes, at: int) -> Tuple[bool, int]:
        if at >= len(data) or data[at] > 1:
            raise DecodeError("neither true nor false")
        return data[at] == 1, at + 1

    return Codec(encode, decode)


def _run(least: int, most: int, what: str) -> Codec:
    def encode(out: bytearray, value: bytes) -> None:
        size = len(value)
        if not least <= size <= most:
            raise ValueError(f"a {what} has {least} to {most} bytes, not {size}")
        put_varint(out, size)
        out += value

    def decode(data: bytes, at: int) -> Tuple[bytes, int]:
        size, at = get_varint(data, at, 32)
        end = at + size
        if not least <= size <= most or end > len(data):
            raise DecodeError(f"a {what} is too long or too short")
        return data[at:end], end

    return Codec(encode, decode)


def _text(least: int, most: int, characters: "typing.FrozenSet[str]" = frozenset()) -> Codec:
    put, get = _run(least, most, "queue name" if characters else "text")

    def encode(out: bytearray, value: str) -> None:
        if characters and not characters.issuperset(value):
            raise ValueError(f'invalid queue name "{value}": use letters, digits, ".", "_" and "-"')
        put(out, value.encode())

    def decode(data: bytes, at: int) -> Tuple[str, int]:
        run, at = get(data, at)
        try:
            value = str(run, "utf-8")
        except UnicodeDecodeError:
            raise DecodeError("a text is not UTF-8") from None
        if characters and not characters.issuperset(value):
            raise DecodeError("not the name of a queue")
        return value, at

    return Codec(encode, decode)


def _fixed(size: int) -> Codec:
    def encode(out: bytearray, value: bytes) -> None:
        if len(value) != size:
            raise ValueError(f"{len(value)} bytes instead of {size}")
        out += value

    def decode(data: bytes, at: int) -> Tuple[bytes, int]:
        if at + size > len(data):
            raise DecodeError("the message ends within an array")
        return data[at : at + size], at + size

    return Codec(encode, decode)


def _list(item: Codec, bounds: Max) -> Codec:
    put, get = item

    def encode(out: bytearray, values: List[Any]) -> None:
        if not bounds.least <= len(values) <= bounds.most:
            raise ValueError(f"{len(values)} items: at most {bounds.most} are allowed")
        put_varint(out, len(values))
        for value in values:
            put(out, value)

    def decode(data: bytes, at: int) -> Tuple[List[Any], int]:
        count, at = get_varint(data, at, 32)
        if not bounds.least <= count <= bounds.most:
            raise DecodeError(f"a list of {count} items: at most {bounds.most} are allowed")
        values = []
        for _ in range(count):
            value, at = get(data, at)
            values.append(value)
        return values, at

    return Codec(encode, decode)


def _option(inner: Codec) -> Codec:
    put, get = inner

    def encode(out: bytearray, value: Any) -> None:
        if value is None:
            out.append(0)
        else:
            out.append(1)
            put(out, value)

    def decode(data: bytes, at: int) -> Tuple[Any, int]:
        if at >= len(data) or data[at] > 1:
            raise DecodeError("neither a value nor none")
        return get(data, at + 1) if data[at] else (None, at + 1)

    return Codec(encode, decode)


def _empty_is_none(inner: Codec) -> Codec:
    put, get = _option(inner)
    return Codec(lambda out, value: put(out, value or None), lambda data, at: _or_empty(get(data, at)))


def _or_empty(decoded: Tuple[Any, int]) -> Tuple[str, int]:
    return decoded[0] or "", decoded[1]


def _sequence(make: Callable[[List[Any]], Any], fields: List[Codec]) -> Codec:
    puts = [field.encode for field in fields]
    gets = [field.decode for field in fields]

    def encode(out: bytearray, value: Any) -> None:
        for put, part in zip(puts, value):
            put(out, part)

    def decode(data: bytes, at: int) -> Tuple[Any, int]:
        parts = []
        for get in gets:
            part, at = get(data, at)
            parts.append(part)
        return make(parts), at

    return Codec(encode, decode)


def _variants(classes: List[Any]) -> Codec:
    puts = {cls: (number, codec_of(cls).encode) for number, cls in enumerate(classes)}
    gets = [codec_of(cls).decode for cls in classes]

    def encode(out: bytearray, value: Any) -> None:
        number, put = puts[type(value)]
        out.append(number)
        put(out, value)

    def decode(data: bytes, at: int) -> Tuple[Any, int]:
        number, at = get_varint(data, at, 32)
        if number >= len(gets):
            raise DecodeError(f"no variant has the number {number}")
        return gets[number](data, at)

    return Codec(encode, decode)


def _enumeration(cls: Any, bits: int) -> Codec:
    known = {int(member): member for member in cls}

    def encode(out: bytearray, value: int) -> None:
        put_varint(out, int(cls(value)))

    def decode(data: bytes, at: int) -> Tuple[Any, int]:
        number, at = get_varint(data, at, bits)
        if number not in known:
            raise DecodeError(f"{cls.__name__} has no member {number}")
        return known[number], at

    return Codec(encode, decode)


def _open(cls: Any, bits: int) -> Codec:
    def encode(out: bytearray, value: int) -> None:
        put_varint(out, int(cls(value)))

    def decode(data: bytes, at: int) -> Tuple[Any, int]:
        number, at = get_varint(data, at, bits)
        try:
            return cls(number), at
        except ValueError as error:
            raise DecodeError(str(error)) from None

    return Codec(encode, decode)


_CODECS: Dict[Any, Codec] = {}


def codec_of(annotation: Any) -> Codec:
    """The codec of a type, made once."""
    codec = _CODECS.get(annotation)
    if codec is None:
        codec = _CODECS[annotation] = _make(annotation)
    return codec


def _make(annotation: Any) -> Codec:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1])
    if origin is Union:
        others = [argument for argument in arguments if argument is not type(None)]
        inner = codec_of(others[0]) if len(others) == 1 else _variants(others)
        return _option(inner) if len(others) < len(arguments) else inner
    if origin is tuple:
        return _sequence(tuple, [codec_of(argument) for argument in arguments])
    if annotation is bool:
        return _bool()
    if issubclass(annotation, IntEnum):
        return _enumeration(annotation, 32)
    hints = typing.get_type_hints(annotation, include_extras=True)
    return _sequence(annotation._make, [codec_of(hints[field]) for field in annotation._fields])


def _annotated(base: Any, mark: Any) -> Codec:
    if isinstance(mark, _Mark):
        return mark.make(base)
    if base is bytes:
        return _run(mark.least, mark.most, "run of bytes")
    if base is str:
        return _text(mark.least, mark.most)
    return _list(codec_of(typing.get_args(base)[0]), mark)


U8 = Annotated[int, _Mark(lambda _: _byte())]
U16 = Annotated[int, _Mark(lambda _: _number(16))]
U32 = Annotated[int, _Mark(lambda _: _number(32))]
U64 = Annotated[int, _Mark(lambda _: _number(64))]
U128 = Annotated[int, _Mark(lambda _: _number(128))]
I64 = Annotated[int, _Mark(lambda _: _zigzag(64))]
Name = Annotated[str, Max(64)]
Address = Annotated[str, Max(256)]
Queue = Annotated[str, _Mark(lambda _: _text(1, 128, QUEUE_CHARACTERS))]
#: The name of a queue, or an empty text for none.
QueueOrNone = Annotated[str, _Mark(lambda _: _empty_is_none(_text(1, 128, QUEUE_CHARACTERS)))]
Key = Annotated[str, Max(128, 1)]
Magic = Annotated[bytes, _Mark(lambda _: _fixed(8))]
Bytes32 = Annotated[bytes, _Mark(lambda _: _fixed(32))]
Bytes8 = Annotated[bytes, _Mark(lambda _: _fixed(8))]
Bytes10 = Annotated[bytes, _Mark(lambda _: _fixed(10))]
Bytes16 = Annotated[bytes, _Mark(lambda _: _fixed(16))]
#: An enum whose members are numbers on the wire, and not positions of variants; those of later versions are let in.
Number16 = _Mark(lambda cls: _open(cls, 16))


def constant(known: Any) -> _Mark:
    """Marks a type of which one value, told by its identity, is written most of the time."""

    def make(base: Any) -> Codec:
        put, get = codec_of(base)
        written = bytearray()
        put(written, known)

        def encode(out: bytearray, value: Any) -> None:
            if value is known:
                out += written
            else:
                put(out, value)

        return Codec(encode, get)

    return _Mark(make)


def encode(annotation: Any, value: Any) -> bytearray:
    """The bytes of ``value``."""
    out = bytearray()
    codec_of(annotation).encode(out, value)
    return out


def decode(annotation: Any, data: bytes) -> Any:
    """The value of all of ``data``."""
    value, end = codec_of(annotation).decode(data, 0)
    if end != len(data):
        raise DecodeError(f"{len(data) - end} bytes are left over")
    return value
