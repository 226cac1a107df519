"""Frames: a head of 24 bytes, a header in postcard, and a tail of contents."""

import struct
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _crc32c

HEAD = struct.Struct("<IIQIBBH")
HEAD_SIZE = HEAD.size
_SIZE = struct.Struct("<I")
_BEHIND = struct.Struct("<QIBBH")

HELLO, REQUEST, RESPONSE, PEER_REQUEST, PEER_RESPONSE, PING, PONG, GOODBYE, CANCEL = range(1, 10)
MORE = 1

HELLO_SIZE_MAX = 4_096
HEADER_SIZE_MAX = 262_144
TAIL_SIZE_MAX = 8_388_608
SIZE_MAX = 20 + HEADER_SIZE_MAX + TAIL_SIZE_MAX

_HAS_TAIL = frozenset({REQUEST, RESPONSE, PEER_REQUEST, PEER_RESPONSE})
_BARE = frozenset({PING, PONG, CANCEL})


class FrameError(ValueError):
    """The bytes are not a frame."""


class Frame(NamedTuple):
    request_id: int
    kind: int
    more: bool
    header: bytes
    tail: bytes


def pack(
    request_id: int,
    kind: int,
    header: bytes = b"",
    tail: Sequence[bytes] = (),
    checksums: Optional[Sequence[int]] = None,
    more: bool = False,
) -> List[bytes]:
    """The pieces of a frame. ``checksums`` are those of the pieces of the tail, if they are known."""
    tail_size = sum(map(len, tail))
    header_size = len(header)
    if header_size > HEADER_SIZE_MAX or tail_size > TAIL_SIZE_MAX:
        raise FrameError(f"a header of {header_size} or contents of {tail_size} bytes are too large for a frame")
    size = _SIZE.pack(20 + header_size + tail_size)
    behind = _BEHIND.pack(request_id, header_size, kind, MORE if more else 0, 0) + header
    crc = _crc32c.extend(0, size + behind)
    if checksums is None:
        for piece in tail:
            crc = _crc32c.extend(crc, piece)
    else:
        crc = _continue(crc, checksums, tail)
    return [size + _SIZE.pack(crc) + behind, *tail]


def _continue(crc: int, checksums: Sequence[int], pieces: Sequence[bytes]) -> int:
    """The checksum of what ``crc`` covers and of ``pieces`` with these checksums behind it."""
    for checksum, piece in zip(checksums, pieces):
        if len(piece) >= _crc32c.combine_from:
            crc = _crc32c.combine(crc, checksum, len(piece))
        else:
            crc = _crc32c.extend(crc, piece)
    return crc


def size_of(data: "Union[bytes, bytearray]", at: int, most: int) -> int:
    """Bytes of the frame that begins at ``at``, all of it."""
    size = 4 + int.from_bytes(data[at : at + 4], "little")
    if size > 4 + most:
        raise FrameError(f"a frame of {size} bytes: at most {4 + most} are allowed")
    if size < HEAD_SIZE:
        raise FrameError(f"a frame of {size} bytes is too small")
    return size


class Unchecked(NamedTuple):
    """A frame whose checksum was not compared yet."""

    frame: Frame
    expected: int
    #: The checksum of all but the tail.
    before: int

    def check(self) -> Frame:
        """The frame, if its checksum is right."""
        return self.check_against(_crc32c.extend(self.before, self.frame.tail))

    def check_with(self, checksums: Sequence[int], pieces: Sequence[bytes]) -> Frame:
        """The same, from the checksums of the contents that are the tail."""
        return self.check_against(_continue(self.before, checksums, pieces))

    def check_against(self, crc: int) -> Frame:
        if crc != self.expected:
            raise FrameError("the checksum of a frame does not match")
        return self.frame


def unpack(data: bytes) -> Unchecked:
    """The frame that ``data`` is, its checksum not compared yet."""
    size, crc, request_id, header_size, kind, flags, zero = HEAD.unpack_from(data)
    tail_at = HEAD_SIZE + header_size
    if header_size > HEADER_SIZE_MAX:
        raise FrameError(f"a header of {header_size} bytes: at most {HEADER_SIZE_MAX} are allowed")
    if tail_at > size + 4:
        raise FrameError(f"a header of {header_size} bytes in a frame of {size}")
    if size + 4 - tail_at > TAIL_SIZE_MAX:
        raise FrameError(f"a tail of {size + 4 - tail_at} bytes: at most {TAIL_SIZE_MAX} are allowed")
    if len(data) != size + 4:
        raise FrameError("a frame was cut short")
    if not HELLO <= kind <= CANCEL:
        _compare(data, crc)
        raise FrameError(f"no kind of frame has the number {kind}")
    if flags & ~MORE or (flags and kind not in _HAS_TAIL):
        raise FrameError(f"flags {flags} mean nothing for kind {kind}")
    if zero:
        raise FrameError("reserved bytes of a frame are not zero")
    if (kind in _BARE and len(data) > HEAD_SIZE) or (kind not in _HAS_TAIL and tail_at < len(data)):
        raise FrameError(f"a frame of kind {kind} has bytes that mean nothing")
    before = _crc32c.extend(_crc32c.crc32c(data[:4]), data[8:tail_at])
    frame = Frame(request_id, kind, flags == MORE, data[HEAD_SIZE:tail_at], data[tail_at:])
    return Unchecked(frame, crc, before)


def _compare(data: bytes, crc: int) -> None:
    if _crc32c.extend(_crc32c.crc32c(data[:4]), data[8:]) != crc:
        raise FrameError("the checksum of a frame does not match")


class Gatherer:
    """Puts frames that came in pieces together."""

    def __init__(self, size_max: int) -> None:
        self._parts: Dict[Tuple[int, int], Tuple[bytes, List[bytes]]] = {}
        self._size = 0
        self._size_max = size_max

    def is_whole(self, frame: Frame) -> bool:
        """The frame is a message by itself, and not the last piece of one."""
        return not frame.more and (frame.request_id, frame.kind) not in self._parts

    def take(self, frame: Frame) -> Optional[Frame]:
        """The whole frame, once its last piece has come."""
        key = (frame.request_id, frame.kind)
        if self.is_whole(frame):
            return frame
        if key in self._parts and frame.header:
            raise FrameError("a later piece of a message has a header")
        header, pieces = self._parts.setdefault(key, (frame.header, []))
        pieces.append(frame.tail)
        self._size += len(frame.tail)
        if self._size > self._size_max or sum(map(len, pieces)) > TAIL_SIZE_MAX:
            raise FrameError("the pieces of a message are too large together")
        if frame.more:
            return None
        del self._parts[key]
        tail = b"".join(pieces)
        self._size -= len(tail)
        return Frame(frame.request_id, frame.kind, False, header, tail)
