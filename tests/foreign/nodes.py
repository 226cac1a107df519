"""Real nodes with HTTP, for tests with foreign programs. Standard library only."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

QUEUED = os.environ["QUEUED"]
QUEUECTL = os.environ["QUEUECTL"]


def ports(count: int) -> List[int]:
    """Ports that were free a moment ago, none twice."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    numbers = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return numbers


def until(what: str, done: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Waits for a condition and gives what it gave; AssertionError if it does not come."""
    end = time.monotonic() + seconds
    while True:
        result = done()
        if result:
            return result
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


def http(url: str, body: Optional[bytes] = None, timeout: float = 10.0, **headers: str) -> Tuple[int, bytes]:
    """Status and body of a GET, or of a POST if there is a body; status 0 if there was no answer."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=names), timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


class Node:
    """One process, with the same command at every start; `program` and `env` may change in between."""

    def __init__(self, directory: Path, name: str, port: int, http_port: int, command: List[str]) -> None:
        self.name, self.address, self.http = name, f"127.0.0.1:{port}", f"127.0.0.1:{http_port}"
        self.directory, self.command = directory, command
        self.program, self.env = QUEUED, dict(os.environ)
        self.process: Optional[subprocess.Popen] = None

    def settings(self) -> List[str]:
        return [
            "--name", self.name, "--listen", self.address, "--listen-http", self.http,
            "--data-dir", str(self.directory / self.name), "--log-level", "warn",
        ]  # fmt: skip

    def start(self) -> None:
        with open(self.directory / f"{self.name}.log", "a") as log:
            self.process = subprocess.Popen([self.program, *self.command, *self.settings()], stderr=log, env=self.env)

    def end(self, how: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait()

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def leads(self) -> bool:
        return http(f"http://{self.http}/leader", timeout=2.0)[0] == 200


class Cluster:
    """`count` nodes in a directory that is removed at the end."""

    def __init__(self, count: int = 3, more: Tuple[str, ...] = ()) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="queued-foreign-"))
        numbers = ports(2 * count)
        self.servers = ",".join(f"127.0.0.1:{port}" for port in numbers[:count])
        self.secret = self.directory / "secret"
        self.secret.write_text("5" * 64 + "\n")
        self.secret.chmod(0o600)
        command = ["start", "--peers", self.servers, "--secret-file", str(self.secret), *more]
        self.nodes = [
            Node(self.directory, f"n{at + 1}", numbers[at], numbers[count + at], command) for at in range(count)
        ]

    def __enter__(self) -> "Cluster":
        try:
            for node in self.nodes:
                node.start()
            self.ctl("cluster", "wait", "--for", f"voters={len(self.nodes)}")
        except BaseException as error:
            # Nobody else would end what has started.
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for node in self.nodes:
            node.kill()
            if kind is not None:
                print(f"--- {node.name}\n{(self.directory / f'{node.name}.log').read_text()[-4_000:]}")
        shutil.rmtree(self.directory)

    def ctl(self, *words: str, text: Optional[str] = None, timeout: str = "30s") -> str:
        """What `queuectl` prints; CalledProcessError if it fails."""
        command = [QUEUECTL, "--servers", self.servers, "--timeout", timeout, *words]
        return subprocess.run(command, check=True, input=text, stdout=subprocess.PIPE, text=True).stdout

    def leader(self) -> Node:
        return until("a leader", lambda: next((node for node in self.nodes if node.leads()), None))

    def learner(self, name: str) -> Node:
        """A further node, without a vote."""
        port, http_port = ports(2)
        node = Node(self.directory, name, port, http_port, ["serve"])
        joining = [QUEUED, "join", "--secret-file", str(self.secret), "--name", name, "--listen", node.address]
        joining += ["--data-dir", str(self.directory / name), "--log-level", "warn"]
        with open(self.directory / f"{name}.log", "a") as log:
            process = subprocess.Popen(joining, stderr=log, stdout=subprocess.DEVNULL)
            try:
                host, number = node.address.split(":")
                until("it waits to be taken in", lambda: socket.socket().connect_ex((host, int(number))) == 0)
                self.ctl("cluster", "add", node.address, "--learner")
                assert process.wait(30) == 0
            finally:
                process.kill()
        self.nodes.append(node)
        node.start()
        return node

    def counts(self, queue: str) -> Dict[str, Any]:
        """The figures of a queue, as JSON."""
        return json.loads(self.ctl("queue", "info", queue, "--json"))
