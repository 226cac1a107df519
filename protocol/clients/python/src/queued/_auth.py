"""A token, and how a client shows that it has it without sending it: RFC 5802 without salt, over a 256-bit key."""

import hashlib
import hmac
import os
from typing import NamedTuple, Union

from . import _crc32c

PREFIX = "qk1_"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_LABEL = b"queued login v1\0"
PLAIN_CHANNEL = bytes(32)


class Token(NamedTuple):
    """A key of a principal: ``qk1_`` and 71 letters and digits."""

    key: bytes
    secret: bytes

    def __repr__(self) -> str:
        return "Token(..)"

    @classmethod
    def parse(cls, text: str) -> "Token":
        """Raises ``ValueError`` if it is not a token, or mistyped."""
        text = text.strip()
        data = _unpacked(text[len(PREFIX) :]) if text.startswith(PREFIX) else b""
        if len(data) != 44 or _crc32c.crc32c(data[:42]).to_bytes(4, "little")[:2] != data[42:]:
            raise ValueError("it is not a token: qk1_ and 71 letters and digits, of which some check the others")
        return cls(data[:10], data[10:42])

    @classmethod
    def of(cls, source: "Union[str, os.PathLike[str]]") -> "Token":
        """A token as text, or the path of a file that holds one. Raises ``OSError`` or ``ValueError``."""
        if isinstance(source, str):
            return cls.parse(source)
        with open(source, encoding="ascii") as file:
            return cls.parse(file.read())

    def _keys(self) -> "tuple[bytes, bytes, bytes]":
        client = _mac(self.secret, b"queued client key")
        return client, hashlib.sha256(client).digest(), _mac(self.secret, b"queued server key")

    def verifier(self) -> "tuple[bytes, bytes]":
        """What a cluster keeps of it."""
        _, stored, server = self._keys()
        return stored, server

    def prove(self, transcript: bytes) -> bytes:
        """What shows that this is known, over this connection."""
        client, stored, _ = self._keys()
        return bytes(a ^ b for a, b in zip(client, _mac(stored, transcript)))

    def knows(self, transcript: bytes, shown: bytes) -> bool:
        """Whether the node knows the key."""
        return hmac.compare_digest(_mac(self._keys()[2], transcript), shown)


def transcript(hello: bytes, accepted: bytes, channel: bytes) -> bytes:
    """What the proofs are over: both frames whole, and the SHA-256 of the certificate that the node sent."""
    return _LABEL + hashlib.sha256(hello).digest() + hashlib.sha256(accepted).digest() + channel


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def _unpacked(text: str) -> bytes:
    held, bits, out = 0, 0, bytearray()
    for letter in text:
        value = _ALPHABET.find(letter)
        if value < 0:
            return b""
        held, bits = held << 5 | value, bits + 5
        if bits >= 8:
            bits -= 8
            out.append(held >> bits & 255)
            held &= (1 << bits) - 1
    return b"" if held or bits >= 5 else bytes(out)
