"""A real Prometheus with the rules and alerts that are shipped, at three nodes whose leader is killed: `tests/interop prometheus`.

Needs $QUEUED, $QUEUECTL and $PROMETHEUS. Takes about two and a half minutes: alerts wait as long as they say.
"""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

from dashboard import PACKAGING, queries
from nodes import Cluster, http, ports, until

PROMETHEUS = os.environ["PROMETHEUS"]
# What stands in the queues from begin to end, by queue and state.
HELD = {("a", "ready"): 100, ("b", "ready"): 5, ("b", "leased"): 3, ("b", "dead"): 2, ("full", "ready"): 1}


class Notified(BaseHTTPRequestHandler):
    """Stands in for an Alertmanager."""

    firing: Set[Tuple[str, str]] = set()
    resolved: Set[Tuple[str, str]] = set()

    def do_POST(self) -> None:  # noqa: N802
        for alert in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
            labels = alert["labels"]
            name = (labels["alertname"], labels.get("instance") or labels.get("queue") or "")
            # One that goes on ends some seconds from now, unless it is told again.
            ended = alert["endsAt"] < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 2))
            (self.resolved if ended else self.firing).add(name)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Prometheus:
    """The program, with the configuration that is shipped but for the addresses and how often it looks."""

    def __init__(self, directory: Path, targets: List[str]) -> None:
        receiver = ThreadingHTTPServer(("127.0.0.1", 0), Notified)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        config = (PACKAGING / "prometheus/prometheus.yml").read_text()
        shipped = 'targets: ["127.0.0.1:7411", "127.0.0.1:7421", "127.0.0.1:7431"]'
        for old, new in {
            "scrape_interval: 15s": "scrape_interval: 1s\n  evaluation_interval: 1s",
            shipped: f"targets: {json.dumps(targets)}",
        }.items():
            assert old in config
            config = config.replace(old, new)
        config += f'alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{receiver.server_port}"]}}]}}]}}\n'
        (directory / "prometheus.yml").write_text(config)
        for file in ("rules.yml", "alerts.yml"):
            shutil.copy(PACKAGING / "prometheus" / file, directory)
        (port,) = ports(1)
        self.url = f"http://127.0.0.1:{port}/api/v1"
        command = [PROMETHEUS, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/tsdb"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        self.process = subprocess.Popen(command)
        until("Prometheus runs", lambda: self.ask("query", query="1"))

    def ask(self, what: str, **words: Any) -> Any:
        status, body = http(f"{self.url}/{what}?{urllib.parse.urlencode(words)}")
        return json.loads(body)["data"]["result"] if status == 200 else None

    def now(self, query: str) -> Dict[Tuple[str, ...], float]:
        """Values by the values of their labels."""
        result = self.ask("query", query=query) or []
        return {tuple(value for _, value in sorted(row["metric"].items())): float(row["value"][1]) for row in result}

    def steps(self, query: str, begin: float, end: float) -> List[Dict[Tuple[str, ...], float]]:
        """The same at each second."""
        rows = self.ask("query_range", query=query, start=begin, end=end, step=1)
        steps: List[Dict[Tuple[str, ...], float]] = [{} for _ in range(int(end - begin) + 1)]
        for row in rows:
            name = tuple(value for _, value in sorted(row["metric"].items()))
            for at, value in row["values"]:
                steps[round(float(at) - begin)][name] = float(value)
        return steps


def fill(cluster: Cluster) -> None:
    cluster.ctl("push", "a", "--create", "-q", text="x\n" * 100)
    cluster.ctl("push", "b", "--create", "-q", text="x\n" * 10)
    leased = cluster.ctl("lease", "b", "-n", "5", "--for", "30m", "--json")
    receipts = [json.loads(line)["receipt"] for line in leased.splitlines()]
    cluster.ctl("nack", *receipts[:2], "--reject", "-q")
    cluster.ctl("queue", "create", "full", "--max-messages", "1", "-q")
    cluster.ctl("push", "full", "x", "-q")


def sums(prometheus: Prometheus, begin: float, end: float) -> None:
    """What is recorded is right at each second, and missing at no more than two in a row, whoever led."""
    gap = longest = 0
    recorded = prometheus.steps("queued:messages:max", begin, end)
    for step in recorded:
        gap = 0 if step else gap + 1
        longest = max(longest, gap)
        named = {(queue, state): value for (_, _, queue, state), value in step.items() if value and queue != "load"}
        assert not step or named == HELD, step
    plain = prometheus.steps('sum(queued_messages{queue!="load"})', begin, end)
    wrong = [step for step in plain if step and step[()] != sum(HELD.values())]
    assert len(wrong) <= 2, f"the plain sum is wrong at {len(wrong)} of {len(plain)} seconds"
    assert longest <= 2, f"nothing for {longest} scrapes in a row"
    print(f"ok  {len(recorded)} sums right, longest gap {longest} scrapes; {len(wrong)} plain sums counted two leaders")


def pushing(cluster: Cluster, stop: threading.Event, pushed: List[int]) -> None:
    while not stop.is_set():
        # Each counts once, however long it takes.
        cluster.ctl("push", "load", "x", "--create", "-q", timeout="120s")
        cluster.ctl("pop", "load", "-q", timeout="120s")
        pushed[0] += 1


def main() -> None:
    with Cluster(3) as cluster:
        fill(cluster)
        prometheus = Prometheus(cluster.directory, [node.http for node in cluster.nodes])
        stop, pushed = threading.Event(), [0]
        load = threading.Thread(target=pushing, args=(cluster, stop, pushed))
        load.start()
        try:
            run(cluster, prometheus, stop, pushed, load)
        finally:
            stop.set()
            prometheus.process.send_signal(signal.SIGTERM)
            prometheus.process.wait()


def run(cluster: Cluster, prometheus: Prometheus, stop: threading.Event, pushed: List[int], load: threading.Thread) -> None:
    def alerts() -> Set[Tuple[str, str]]:
        return Notified.firing

    recorded = "queued:messages:max{queue!='load'} > 0"
    until("all is scraped", lambda: sum(prometheus.now(recorded).values()) == sum(HELD.values()))
    begin = time.time()
    until("five scrapes", lambda: time.time() > begin + 5)
    leader = cluster.leader()
    leader.kill()
    killed = time.time()
    expected = {("QueuedNodeDown", leader.http), ("QueuedQuorumAtRisk", ""), ("QueuedQueueFull", "full")}
    until(f"{expected} fire", lambda: expected <= alerts(), 100)
    print(f"ok  {leader.name}, the leader, killed: {sorted(expected)} fire after {time.time() - killed:.0f} s")
    assert not any(name == "QueuedNoLeader" for name, _ in alerts()), "a change of leader is not the end of the world"
    leader.start()
    HELD.pop(("full", "ready"))
    end = time.time() - 1
    cluster.ctl("pop", "full", "-q")
    until(f"{expected} are resolved", lambda: expected <= Notified.resolved, 60)
    print("ok  all resolved once it is back and the queue has room")
    HELD[("full", "ready")] = 1
    sums(prometheus, begin, end)

    # The one that remains led until now, and may not know yet that it does not.
    leader = cluster.leader()
    others = [node for node in cluster.nodes if node is not leader]
    for node in others:
        node.kill()
    killed = time.time()
    until("no leader", lambda: ("QueuedNoLeader", "") in alerts(), 60)
    print(f"ok  without a majority QueuedNoLeader fires after {time.time() - killed:.0f} s")
    for node in others:
        node.start()
    until("a leader again", lambda: ("QueuedNoLeader", "") in Notified.resolved, 60)
    print("ok  resolved")

    stop.set()
    load.join()
    total = "max(queued_queue_pushed_messages_total{queue='load'})"
    until("the last push is counted", lambda: prometheus.now(total).get(()) == pushed[0])
    print(f"ok  {pushed[0]} pushes went on all the time, and are counted")
    last = time.time()
    asked = queries()
    for where, query in asked.items():
        rows = prometheus.ask("query_range", query=query, start=begin, end=last, step=1)
        assert rows, f"the dashboard shows nothing in {where}: {query}"
    print(f"ok  each of {len(asked)} queries of the dashboard has an answer")
    more = {name for name, _ in alerts()} - {name for name, _ in expected} - {"QueuedNoLeader", "QueuedNodeDown"}
    print(f"ok  {len(alerts())} alerts in all; others: {sorted(more) or 'none'}")


main()
