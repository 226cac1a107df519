"""A cluster behind nginx, with the configuration that is shipped: the gateway below a path, requests that hide others, clients
that are slow: `tests/interop nginx`.

Needs $QUEUED, $QUEUECTL and $NGINX_PROGRAM.
"""

import json
import os
import re
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from dashboard import PACKAGING
from nodes import Cluster, Node, http, ports, until
from smuggled import HOST, PIPELINED, SECRET, corpus

NGINX = os.environ["NGINX_PROGRAM"]
MAIN = """
pid %(dir)s/pid; error_log %(dir)s/error.log; daemon off; worker_processes 1; worker_rlimit_nofile 8192; user root;
events { worker_connections 4096; }
http {
    access_log %(dir)s/access.log;
    client_body_temp_path %(dir)s/body; proxy_temp_path %(dir)s/proxy; fastcgi_temp_path %(dir)s/fastcgi;
    uwsgi_temp_path %(dir)s/uwsgi; scgi_temp_path %(dir)s/scgi;
    %(shipped)s
}
"""


class Proxy:
    """nginx in front of these nodes; what is below `denied` it must not let pass."""

    def __init__(self, directory: Path, nodes: List[str]) -> None:
        (self.port,) = ports(1)
        self.address, self.url = ("127.0.0.1", self.port), f"http://127.0.0.1:{self.port}/mq"
        shipped = (PACKAGING / "nginx.conf").read_text()
        servers = "".join(f"server {node};" for node in nodes)
        shipped, changed = re.subn(r"server 127\.0\.0\.1:7411;\n.*\n.*7431;", servers, shipped)
        denied = f"location /mq{SECRET.rsplit('/', 1)[0]} {{ return 403; }}"
        for old, new in {"127.0.0.1:8080": f"127.0.0.1:{self.port}", "mq.example.net": HOST, "location /mq/ {": ""}.items():
            assert old in shipped
            shipped = shipped.replace(old, new or f"{denied}\n    {old}", 1)
        assert changed == 1
        home = directory / "nginx"
        home.mkdir()
        (home / "nginx.conf").write_text(MAIN % {"dir": home, "shipped": shipped})
        self.home = home
        self.process = subprocess.Popen([NGINX, "-p", str(home), "-e", f"{home}/error.log", "-c", f"{home}/nginx.conf"])
        until("nginx answers", lambda: http(f"{self.url}/livez", Host=HOST)[0] == 200)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def raw(address: Tuple[str, int], request: bytes, seconds: float = 0.3) -> bytes:
    """All that comes back until nothing more comes."""
    with socket.create_connection(address) as stream:
        stream.sendall(request)
        stream.settimeout(seconds)
        parts = []
        try:
            while part := stream.recv(1 << 16):
                parts.append(part)
        except OSError:
            pass
        return b"".join(parts)


def statuses(answer: bytes) -> List[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d\d\d) ", answer)]


def below_a_path(proxy: Proxy, cluster: Cluster) -> None:
    """The gateway as users of the proxy have it."""

    def ask(path: str, body: object = None, **headers: Any) -> Tuple[int, bytes]:
        text = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        return http(proxy.url + path, text, Host=HOST, **headers)

    assert ask("/send", {"n": 1}, Content_Type="application/json")[0] == 201
    assert ask("/recieve") == (200, b'{"Data":{"n":1}}\n')
    assert json.loads(ask("/stats")[1])["num_peers"] == "2"
    assert ask("/readyz")[0] == 200 and ask("/metrics")[0] == 200
    assert ask("/v1/queues/mail/messages", b"one", Queue_Create="true")[0] == 201
    # A lease that waits; what it waits for comes a second later.
    later = threading.Timer(1.0, lambda: ask("/v1/queues/late/messages", b"late"))
    cluster.ctl("queue", "create", "late", "-q")
    later.start()
    begin = time.monotonic()
    status, body = ask("/v1/queues/late/leases", {"wait_ms": 10_000})
    (message,) = json.loads(body)["messages"]
    assert status == 200 and message["body"] == "late" and time.monotonic() - begin < 5
    assert ask("/v1/ack", {"receipts": [message["receipt"]]})[0] == 200
    # Lines; and a request of a session, repeated.
    lines = b"".join(b"line %d\n" % n for n in range(1_000))
    status, body = ask("/v1/queues/mail/messages", lines, Content_Type="application/x-ndjson")
    assert status == 200 and len(body.splitlines()) == 1_000
    session = json.loads(ask("/v1/sessions", b"")[1])["session"]
    stamp: Dict[str, Any] = {"Queue_Session": session, "Queue_Number": "1"}
    first = ask("/v1/queues/mail/messages", b"counted", **stamp)
    assert first[0] == 201 and ask("/v1/queues/mail/messages", b"counted", **stamp) == first
    assert cluster.counts("mail")["pushed_total"] == 1_002
    # A name that is not the cluster's is refused, the proxy's or not.
    assert http(f"{proxy.url}/livez", Host="evil.example")[0] == 421
    # Nothing that is answered says where it is.
    answer = raw(proxy.address, f"GET /mq/v1/queues HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    assert statuses(answer) == [200] and b"location" not in answer.lower()
    print("ok  gateway below a path: seed's calls, push, lines, waiting lease, session, health, metrics")


def smuggling(cluster: Cluster, where: str, address: Tuple[str, int], prefix: str, expected: List[str]) -> None:
    """No request that hides in another is done, and who comes next gets their own answer."""
    told: Dict[str, int] = {}
    cases = corpus(prefix)
    assert len(cases) >= 40
    probe = f"POST {prefix}/v1/queues/probe/messages HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
    probe += "Queue-Create: true\r\nContent-Length: 1\r\n\r\nx"
    pushed = 0
    passed = []
    for name, request in cases.items():
        answers = statuses(raw(address, request))
        first = str(answers[0]) if answers else "closed"
        told[first] = told.get(first, 0) + 1
        # Those before it share the connections of the proxy with these.
        for _ in range(3):
            pushed += 1
            answer = raw(address, probe.encode(), 5)
            assert statuses(answer) == [201] and answer.count(b'"id"') == 1, f"{name}: the next client got {answer!r}"
        status, _ = http(f"http://{cluster.nodes[0].http}/v1/queues/secret")
        if status != 404:
            assert status == 200
            passed.append(name)
            cluster.ctl("queue", "rm", "secret", "--yes", "-q")
    assert cluster.counts("probe")["pushed_total"] == pushed
    cluster.ctl("queue", "rm", "probe", "--yes", "-q")
    assert passed == expected, f"{where}: {len(passed)} of {len(cases)} passed: {passed}"
    hidden = len(cases) - len(expected)
    print(f"ok  {hidden} requests that hide another, {where}: none passed; first answers {dict(sorted(told.items()))}")


@contextmanager
def crowd(address: Tuple[str, int], count: int, opening: bytes, drip: bytes = b"") -> Iterator[List[socket.socket]]:
    """Connections that say `opening`, then nothing, or a byte a second."""
    streams: List[socket.socket] = []
    stop = threading.Event()

    def dripping() -> None:
        while not stop.wait(1.0):
            for stream in streams:
                try:
                    stream.send(drip)
                except OSError:
                    pass

    for _ in range(count):
        stream = socket.create_connection(address, timeout=10)
        stream.setblocking(False)
        try:
            stream.send(opening)
        except OSError:
            pass
        streams.append(stream)
    # Until they have all come: one that has only begun is not slow yet.
    time.sleep(0.2)
    thread = threading.Thread(target=dripping)
    if drip:
        thread.start()
    try:
        yield streams
    finally:
        stop.set()
        if drip:
            thread.join()
        for stream in streams:
            stream.close()


def good_clients(url: str, count: int = 200) -> List[float]:
    """Milliseconds of requests that each come over a connection of their own; all are served."""
    times = []
    for _ in range(count):
        begin = time.monotonic()
        status, body = http(f"{url}/v1/queues/good/messages", b"x", Host=HOST, Queue_Create="true")
        times.append((time.monotonic() - begin) * 1_000)
        assert status == 201, f"a good client got {status} {body!r}"
    return sorted(times)


def metric(node: Node, name: str) -> float:
    page = http(f"http://{node.http}/metrics")[1].decode()
    return float(re.search(rf"^{re.escape(name)} (.*)$", page, re.M)[1])  # type: ignore[index]


def crowds(cluster: Cluster, where: str, address: Tuple[str, int], prefix: str) -> None:
    """Whatever many others do, good clients are served and memory has an end."""
    node = cluster.nodes[0]
    head = f"POST {prefix}/v1/queues/good/messages HTTP/1.1\r\nHost: {HOST}\r\nQueue-Create: true\r\n"
    url = f"http://{address[0]}:{address[1]}{prefix}"
    good_clients(url, 50)
    memory = metric(node, "process_resident_memory_bytes")
    for what, count, opening, drip in (
        ("idle", 1_000, b"", b""),
        ("idle after a request", 1_000, f"GET {prefix}/livez HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(), b""),
        ("slow heads", 600, b"POST / HT", b"T"),
        ("slow bodies", 600, f"{head}Content-Length: 100000\r\n\r\n".encode(), b"x"),
        ("slow chunks", 600, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), b"1\r\nx\r\n"),
        ("slow lines", 600, f"{head}Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n".encode(),
         b"1\r\nx\r\n"),
    ):  # fmt: skip
        with crowd(address, count, opening, drip):
            times = good_clients(url)
            open_now = metric(node, 'queued_connections{kind="http"}')
            more = (metric(node, "process_resident_memory_bytes") - memory) / (1 << 20)
        assert open_now <= 256, f"{open_now} connections"
        assert more < 64, f"{more:.0f} MiB more"
        assert times[-1] < 3_000, f"a good client waited {times[-1]:.0f} ms"
        print(
            f"ok  {count} {what}, {where}: 200 good clients served, p50 {times[100]:.1f} ms, longest {times[-1]:.0f} ms; "
            f"{open_now:.0f} connections, {more:+.0f} MiB",
            flush=True,
        )


def main() -> None:
    with Cluster(3, ("--http-hosts", HOST)) as cluster:
        node = cluster.nodes[0].http.split(":")
        direct = (node[0], int(node[1]))
        proxy = Proxy(cluster.directory, [node.http for node in cluster.nodes])
        try:
            below_a_path(proxy, cluster)
            smuggling(cluster, "through nginx", proxy.address, "/mq", [])
            smuggling(cluster, "at a node", direct, "", PIPELINED)
            crowds(cluster, "through nginx", proxy.address, "/mq")
            crowds(cluster, "at a node", direct, "")
        finally:
            proxy.end()


main()
