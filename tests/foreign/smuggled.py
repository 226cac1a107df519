"""Requests whose end two programs may see in different places. Inside of each stands a request that nobody sent."""

from typing import Dict

HOST = "mq.test"
# Where a request goes that must not arrive, as a node has it: it is not below the path that the proxy serves.
SECRET = "/v1/queues/secret/messages"
INNER = f"POST {SECRET} HTTP/1.1\r\nHost: {HOST}\r\nQueue-Create: true\r\nContent-Length: 8\r\n\r\nsmuggled".encode()

# Of these both requests are in plain sight, and a node that is asked itself does both, as pipelining has it: no body, or one that
# ends in one place only. They show that a request that passes is seen.
PIPELINED = ["TE.TE underscore, CL short", "chunk size: a trailer that is a head", "websocket upgrade", "CONNECT"]


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def corpus(prefix: str) -> Dict[str, bytes]:
    """Raw requests by name, for a node (no prefix) or for a proxy that serves nodes below one."""
    target = f"{prefix}/v1/queues/public/messages"
    cases: Dict[str, bytes] = {}

    def add(name: str, head: bytes, body: bytes, line: bytes = b"") -> None:
        assert name not in cases, name
        line = line or f"POST {target} HTTP/1.1".encode()
        cases[name] = line + b"\r\nHost: " + HOST.encode() + b"\r\n" + head + b"\r\n" + body

    end = b"0\r\n\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n"

    def length(size: int) -> bytes:
        return b"Content-Length: %d\r\n" % size

    # One side counts bytes, the other chunks.
    cl_te = end + INNER
    add("CL.TE", length(len(cl_te)) + chunked, cl_te)
    add("CL.TE, TE first", chunked + length(len(cl_te)), cl_te)
    add("CL.TE with a chunk", length(len(chunk(b"x") + cl_te)) + chunked, chunk(b"x") + cl_te)
    te_cl = chunk(INNER) + end
    for size in sorted({0, 1, 4, te_cl.index(b"\n") + 1, len(te_cl) - 5}):
        add(f"TE.CL {size}", length(size) + chunked, te_cl)
        add(f"TE.CL {size}, TE first", chunked + length(size), te_cl)
    add("CL 0 and TE", length(0) + chunked, end + INNER)

    # Transfer-Encoding in a dress.
    dressed = {
        "space before the colon": b"Transfer-Encoding : chunked",
        "tab before the colon": b"Transfer-Encoding\t: chunked",
        "tab behind the colon": b"Transfer-Encoding:\tchunked",
        "leading space": b" Transfer-Encoding: chunked",
        "folded": b"Transfer-Encoding:\r\n chunked",
        "folded into another": b"X: y\r\n Transfer-Encoding: chunked",
        "bare LF": b"X: y\nTransfer-Encoding: chunked",
        "bare CR": b"X: y\rTransfer-Encoding: chunked",
        "NUL in the name": b"Transfer-Encoding\x00: chunked",
        "NUL in the value": b"Transfer-Encoding: chunked\x00",
        "vertical tab": b"Transfer-Encoding: \x0bchunked",
        "form feed": b"Transfer-Encoding: chunked\x0c",
        "no-break space": b"Transfer-Encoding:\xa0chunked",
        "quoted": b'Transfer-Encoding: "chunked"',
        "in pieces": b"Transfer-Encoding: chu\r\nTransfer-Encoding: nked",
        "twice, one unknown": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
        "twice, unknown first": b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
        "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "chunked twice": b"Transfer-Encoding: chunked, chunked",
        "identity": b"Transfer-Encoding: identity",
        "identity behind": b"Transfer-Encoding: chunked, identity",
        "identity before": b"Transfer-Encoding: identity, chunked",
        "prefix": b"Transfer-Encoding: xchunked",
        "suffix": b"Transfer-Encoding: chunkedx",
        "a parameter": b"Transfer-Encoding: chunked;q=1",
        "a comma": b"Transfer-Encoding: ,chunked",
        "mixed case": b"tRaNsFeR-eNcOdInG: cHuNkEd",
        "underscore": b"Transfer_Encoding: chunked",
        "empty": b"Transfer-Encoding:",
        "hop by hop": b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    }
    for name, header in dressed.items():
        add(f"TE.TE {name}, CL whole", length(len(cl_te)) + header + b"\r\n", cl_te)
        add(f"TE.TE {name}, CL short", length(4) + header + b"\r\n", te_cl)

    # Lengths that are none, or two.
    inner = len(INNER)
    lengths = {
        "twice, different": b"Content-Length: 0\r\nContent-Length: %d" % inner,
        "twice, different, larger first": b"Content-Length: %d\r\nContent-Length: 0" % inner,
        "a list": b"Content-Length: 0, %d" % inner,
        "a sign": b"Content-Length: +%d" % inner,
        "negative": b"Content-Length: -%d" % inner,
        "hexadecimal": b"Content-Length: 0x%x" % inner,
        "exponent": b"Content-Length: 1e2",
        "fraction": b"Content-Length: %d.0" % inner,
        "space inside": b"Content-Length: %d 0" % inner,
        "space before the colon": b"Content-Length : %d" % inner,
        "folded": b"Content-Length:\r\n %d" % inner,
        "too large": b"Content-Length: 18446744073709551616",
        "too large by the bytes": b"Content-Length: %d" % (inner + (1 << 64)),
        "letters": b"Content-Length: %dx" % inner,
        "NUL": b"Content-Length: %d\x00" % inner,
        "empty": b"Content-Length:",
        "underscore": b"Content_Length: %d\r\nContent-Length: 0, 0, 1" % inner,
        "hop by hop": b"Connection: Content-Length\r\nContent-Length: %d" % inner,
    }
    for name, header in lengths.items():
        add(f"CL {name}", header + b"\r\n", INNER)

    # Chunks whose size is none.
    digits = b"%x" % inner
    bad_chunks = {
        "0x": b"0x" + digits + b"\r\n" + INNER + b"\r\n" + end,
        "a sign": b"+" + digits + b"\r\n" + INNER + b"\r\n" + end,
        "negative": b"-" + digits + b"\r\n" + INNER + b"\r\n" + end,
        "leading space": b" " + digits + b"\r\n" + INNER + b"\r\n" + end,
        "underscore": digits[:1] + b"_" + digits[1:] + b"\r\n" + INNER + b"\r\n" + end,
        "NUL": digits + b"\x00\r\n" + INNER + b"\r\n" + end,
        "no digits": b"\r\n" + INNER + b"\r\n" + end,
        "a letter": b"g\r\n" + INNER + b"\r\n" + end,
        "too large": b"f" * 17 + b"\r\n" + INNER + b"\r\n" + end,
        "too large by the bytes": b"1" + digits.rjust(16, b"0") + b"\r\n" + INNER + b"\r\n" + end,
        "shorter than told": b"%x\r\n%s" % (inner + 40, INNER) + b"\r\n" + end,
        "no end of line": b"1\r\nx" + end + INNER,
        "bare LF": b"1\nx\n0\n\n" + INNER,
        "bare CR": b"1\rx\r0\r\r" + INNER,
        "LF in an extension": b"1;a\nb\r\nx\r\n" + end + INNER,
        "an extension hides a chunk": b"1;\n" + digits + b"\r\nx\r\n" + INNER + end,
        "a trailer that is a head": b"1\r\nx\r\n0\r\nContent-Length: %d\r\n\r\n" % inner + INNER,
        "an open trailer": b"1\r\nx\r\n0\r\n" + INNER,
    }
    for name, body in bad_chunks.items():
        add(f"chunk size: {name}", chunked, body)

    # Requests that may have no body, may change the protocol, or name another place.
    post = f"POST {target}"
    add("GET with a body", length(inner), INNER, f"GET {prefix}/livez HTTP/1.1".encode())
    add("HEAD with a body", length(inner), INNER, f"HEAD {prefix}/livez HTTP/1.1".encode())
    add("GET with chunks", chunked, te_cl, f"GET {prefix}/livez HTTP/1.1".encode())
    add("HTTP/1.0 with chunks", length(len(cl_te)) + chunked, cl_te, f"{post} HTTP/1.0".encode())
    add("HTTP/1.0 chunks only", chunked + b"Connection: keep-alive\r\n", cl_te, f"{post} HTTP/1.0".encode())
    add("HTTP/0.9", b"", INNER, f"GET {prefix}/livez".encode())
    add("version 1.2", length(inner), INNER, f"{post} HTTP/1.2".encode())
    add("line with two spaces", length(inner), INNER, f"{post}  HTTP/1.1".encode())
    add("line split by CR", length(inner), INNER, f"{post}\rX HTTP/1.1".encode())
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    add("h2c upgrade", upgrade + length(inner), INNER)
    socket = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\nSec-WebSocket-Key: x\r\n"
    add("websocket upgrade", socket, INNER, f"GET {prefix}/livez HTTP/1.1".encode())
    add("expects to go on", b"Expect: 100-continue\r\n" + length(inner), INNER)
    add("CONNECT", b"", INNER, b"CONNECT 127.0.0.1:1 HTTP/1.1")
    add("encoded end of line in the path", length(inner), INNER, f"POST {target}%0d%0a HTTP/1.1".encode())
    add("two hosts", b"Host: localhost\r\n" + length(inner), INNER)
    if prefix:
        body = length(1) + b"Queue-Create: true\r\n"
        for name, path in {
            "as it is": SECRET,
            "dots": f"{prefix}/..{SECRET}",
            "encoded dots": f"{prefix}/%2e%2e{SECRET}",
            "encoded slash": f"{prefix}%2f..{SECRET}",
            "double slash": f"/{SECRET}",
            "denied": f"{prefix}{SECRET}",
            "denied, a letter encoded": f"{prefix}/v1/queues/%73ecret/messages",
            "denied, double slash": f"{prefix}//v1/queues/secret/messages",
            "denied, dot": f"{prefix}/./v1/queues/secret/messages",
            "denied, around a corner": f"{prefix}/v1/queues/public/../secret/messages",
            "denied, absolute": f"http://{HOST}{prefix}{SECRET}",
        }.items():
            add(f"path {name}", body, b"x", f"POST {path} HTTP/1.1".encode())
    return cases
