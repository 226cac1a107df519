"""TLS 1.3 to a node, and whom to trust there: authorities, or one key. Nothing here goes on without TLS."""

import hashlib
import hmac
import os
import re
import ssl
from typing import Iterator, Optional, Tuple, Union

from ._errors import Untrusted

ALPN = "queued/1"
_PIN = re.compile("sha256:[0-9a-f]{64}")
#: What OpenSSL calls it if the first bytes that came were no TLS.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST"})


class NoTls(Exception):
    """What answers speaks no TLS."""


class Tls:
    """Speak TLS, with those that have a certificate of an authority: of the file ``ca`` (PEM), or else of this system.

    The certificate must be for the host that is dialed. With ``pin``, ``sha256:`` and 64 hex digits, it is whoever has the key of
    that fingerprint instead, whatever else the certificate says; ``queued cert show FILE`` prints it.
    """

    def __init__(
        self, *, ca: "Optional[Union[str, os.PathLike[str]]]" = None, pin: Optional[str] = None
    ) -> None:
        if ca is not None and pin is not None:
            raise ValueError("a file of authorities or a pin, not both")
        if pin is not None and not _PIN.fullmatch(pin.lower()):
            raise ValueError(f'"{pin}" is not sha256: and 64 hex digits')
        self._ca = None if ca is None else os.fspath(ca)
        self._pin = None if pin is None else pin.lower()
        # The authorities of a system are hundreds; those of a file are read anew at each dial, so that they can change.
        self._context = self._new_context()

    def context(self) -> ssl.SSLContext:
        """For one dial. Raises ``OSError`` or ``ValueError`` if the authorities cannot be read."""
        return self._context if self._ca is None else self._new_context()

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([ALPN])
        context.hostname_checks_common_name = False
        if self._pin is not None:
            # Whoever is there proves to have the key in any case; which one it is `check` compares.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self._ca is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            try:
                context.load_verify_locations(self._ca)
            except ssl.SSLError as error:
                raise ValueError(f"{self._ca} holds no certificates in PEM: {error.reason}") from None
            except OSError as error:
                raise type(error)(error.errno, error.strerror, self._ca) from None
        return context

    def check(self, connection: Optional[ssl.SSLObject]) -> None:
        """Raises ``Untrusted`` if the other end has another key than the one that is trusted."""
        if self._pin is None:
            return
        certificate = None if connection is None else connection.getpeercert(binary_form=True)
        if certificate is None:
            raise Untrusted("it shows no certificate")
        seen = pin_of(certificate)
        if not hmac.compare_digest(seen, self._pin):
            raise Untrusted(f"its key is {seen}, not {self._pin}")


def failure(error: ssl.SSLError) -> Exception:
    """What it means that a handshake failed: trust, reach, or no TLS at all."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Untrusted(f"its certificate is not trusted: {error.verify_message}")
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
        return ConnectionResetError("the connection was closed during the handshake")
    if error.reason in _NOT_TLS:
        return NoTls("what answers speaks no TLS (tls.mode of the node)")
    return Untrusted(f"TLS failed: {error.reason or error}")


def pin_of(certificate: bytes) -> str:
    """The fingerprint of the public key of a certificate in DER: its SubjectPublicKeyInfo (RFC 7469 §2.4)."""
    try:
        _, begin, _ = _element(certificate, 0)
        _, begin, end = _element(certificate, begin)
        # RFC 5280 §4.1: the version may be missing; the key is behind serial, signature, issuer, validity and subject.
        fields = [field for field in _elements(certificate, begin, end) if field[0] != 0xA0]
        _, at, end = fields[5]
    except IndexError:
        raise Untrusted("its certificate cannot be read") from None
    return "sha256:" + hashlib.sha256(certificate[at:end]).hexdigest()


def _elements(der: bytes, at: int, end: int) -> Iterator[Tuple[int, int, int]]:
    """Tag, begin and end of each element of a sequence."""
    while at < end:
        tag, _, after = _element(der, at)
        yield tag, at, after
        at = after


def _element(der: bytes, at: int) -> Tuple[int, int, int]:
    """Tag of the element at ``at``, where its contents begin, and where it ends."""
    tag, size, at = der[at], der[at + 1], at + 2
    if size >= 0x80:
        count = size & 0x7F
        if count > 4:
            raise IndexError
        size, at = int.from_bytes(der[at : at + count], "big"), at + count
    if at + size > len(der):
        raise IndexError
    return tag, at, at + size
