"""CRC32C (Castagnoli), and how checksums of parts make the checksum of the whole.

``google-crc32c`` computes it if it is installed. Otherwise a run of bytes is one large integer, and a few shifts and
exclusive ors of that integer replace its first part by a shorter one with the same remainder: the work is done by the
interpreter's arithmetic and not by a loop over bytes. A fold uses a sparse multiple of the polynomial, that is
``x^n = x^a + x^b + x^c + x^d + 1``; squared, it is one of twice the distance.
"""

from typing import Callable, Dict, List, Tuple

POLYNOMIAL = 0x82F63B78

#: Distance and smaller exponents of sparse multiples of the polynomial.
_RELATIONS = ((1285, (40, 38, 19, 8, 0)), (290, (136, 113, 107, 32, 0)))
#: Bits that are left to the tables.
_REST_BITS = 320

_Fold = Tuple[int, int, int, int, int, int, int]


def _make_tables() -> List[List[int]]:
    first = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
        first.append(crc)
    tables = [first]
    for _ in range(7):
        last = tables[-1]
        tables.append([crc >> 8 ^ first[crc & 255] for crc in last])
    return tables


_TABLES: List[List[int]] = []
_PLANS: Dict[int, List[_Fold]] = {}
#: A plan holds masks as long as its message; those of large messages are made anew.
_PLAN_BYTES_MAX = 16_384
_PLANS_MAX = 512


def _plan(size: int) -> List[_Fold]:
    """The folds that bring ``size`` bytes to no more than the rest."""
    bits, folds = size * 8, []
    while bits > _REST_BITS:
        best = (0, 0, 0, _RELATIONS[0][1])
        for distance, exponents in _RELATIONS:
            scale = 1
            while distance * scale <= bits:
                eaten = min((distance - exponents[0]) * scale, bits - distance * scale) // 8 * 8
                if eaten > best[0]:
                    best = (eaten, distance, scale, exponents)
                scale *= 2
        eaten, distance, scale, exponents = best
        if eaten == 0:
            break
        a, b, c, d, e = ((distance - exponent) * scale - eaten for exponent in exponents)
        folds.append((eaten, (1 << eaten) - 1, a, b, c, d, e))
        bits -= eaten
    if size <= _PLAN_BYTES_MAX:
        if len(_PLANS) >= _PLANS_MAX:
            _PLANS.clear()
        _PLANS[size] = folds
    return folds


def extend_pure(crc: int, data: bytes) -> int:
    """The checksum of what ``crc`` covers and of ``data`` behind it, without any library."""
    if not _TABLES:
        _TABLES.extend(_make_tables())
    size = len(data)
    crc ^= 0xFFFFFFFF
    if size > 64:
        value = int.from_bytes(data, "little") ^ crc
        rest = size
        for eaten, mask, a, b, c, d, e in _PLANS.get(size) or _plan(size):
            low = value & mask
            value = value >> eaten ^ low << a ^ low << b ^ low << c ^ low << d ^ low << e
            rest -= eaten // 8
        data, crc, size = value.to_bytes(rest, "little"), 0, rest
    t0, t1, t2, t3, t4, t5, t6, t7 = _TABLES
    at = 0
    while at + 8 <= size:
        crc ^= int.from_bytes(data[at : at + 4], "little")
        crc = (
            t7[crc & 255] ^ t6[crc >> 8 & 255] ^ t5[crc >> 16 & 255] ^ t4[crc >> 24]
            ^ t3[data[at + 4]] ^ t2[data[at + 5]] ^ t1[data[at + 6]] ^ t0[data[at + 7]]
        )  # fmt: skip
        at += 8
    for byte in data[at:]:
        crc = crc >> 8 ^ t0[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


_Shift = Tuple[List[int], List[int], List[int], List[int]]
_SHIFTS: List[_Shift] = []


def _shift_of(basis: List[int]) -> _Shift:
    """Tables of a linear map that takes bit i to ``basis[i]``."""
    tables: List[List[int]] = []
    for byte in range(4):
        table = [0]
        for bit in range(8):
            table += [entry ^ basis[byte * 8 + bit] for entry in table]
        tables.append(table)
    return tables[0], tables[1], tables[2], tables[3]


def _next_shift() -> None:
    if not _SHIFTS:
        if not _TABLES:
            _TABLES.extend(_make_tables())
        first = _TABLES[0]
        _SHIFTS.append(_shift_of([(1 << bit) >> 8 ^ first[(1 << bit) & 255] for bit in range(32)]))
        return
    t0, t1, t2, t3 = _SHIFTS[-1]
    once = [t0[1 << bit & 255] ^ t1[1 << bit >> 8 & 255] ^ t2[1 << bit >> 16 & 255] ^ t3[1 << bit >> 24] for bit in range(32)]
    _SHIFTS.append(_shift_of([t0[v & 255] ^ t1[v >> 8 & 255] ^ t2[v >> 16 & 255] ^ t3[v >> 24] for v in once]))


def combine(first: int, second: int, second_size: int) -> int:
    """The checksum of two runs of bytes, one behind the other, from theirs and the size of the second."""
    power = 0
    while second_size:
        if second_size & 1:
            while len(_SHIFTS) <= power:
                _next_shift()
            t0, t1, t2, t3 = _SHIFTS[power]
            first = t0[first & 255] ^ t1[first >> 8 & 255] ^ t2[first >> 16 & 255] ^ t3[first >> 24]
        second_size >>= 1
        power += 1
    return first ^ second


#: Continues a checksum: ``extend(crc, data)``.
extend: Callable[[int, bytes], int]
#: Contents of at least this size are combined into the checksum of a frame: below, computing it again is quicker.
combine_from: int
try:
    from google_crc32c import extend as _fast
    from google_crc32c import implementation as _implementation

    if _implementation != "c":
        raise ImportError("google-crc32c has no compiled part here")
    extend, combine_from, is_fast = _fast, 16_384, True
except ImportError:
    extend, combine_from, is_fast = extend_pure, 32, False


def crc32c(data: bytes) -> int:
    """The checksum of ``data``."""
    return extend(0, data)
