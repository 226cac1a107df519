"""1,000 pushes and 1,000 leases with curl; answers are cut off and leaders are killed. Each counts once: `tests/interop curl`.

Needs $QUEUED, $QUEUECTL and curl. $CURL_COUNT messages [default: 1000].
"""

import json
import os
import random
import subprocess
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from nodes import Cluster, until

COUNT = int(os.environ.get("CURL_COUNT", "1000"))
WORKERS = 8
# Of the requests that are sent first; then half of their answers are not waited for.
CUT_OFF = 0.5
SEED = int(os.environ.get("CURL_SEED", str(random.randrange(1 << 32))))


def curl(url: str, *words: str, seconds: float = 20.0) -> Tuple[int, str]:
    """Status and body; status 0 if the answer did not come, or was not waited for."""
    command = ["curl", "-sS", "--max-time", f"{seconds:.3f}", "-w", "\n%{http_code}", *words, url]
    done = subprocess.run(command, capture_output=True, text=True)
    body, _, status = done.stdout.rpartition("\n")
    return (int(status or 0) if done.returncode == 0 else 0), body


class Tally:
    """What became of the requests, for the last line."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Dict[str, int] = {}

    def add(self, what: str) -> None:
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1


class Caller:
    """One session: its requests have rising numbers, and each is repeated until it has an answer."""

    def __init__(self, nodes: List[str], seed: int, tally: Tally) -> None:
        self.nodes, self.random, self.tally, self.number = nodes, random.Random(seed), tally, 0
        session = until("a session", lambda: self.once("/v1/sessions", "-X", "POST"))
        self.session = json.loads(session)["session"]

    def once(self, path: str, *words: str, seconds: float = 20.0) -> Optional[str]:
        status, body = curl(f"http://{self.random.choice(self.nodes)}{path}", *words, seconds=seconds)
        if status in (200, 201):
            return body
        # 503: surely not done, 504: may have been done; both are repeated as they were.
        assert status in (0, 503, 504), f"{path}: {status} {body}"
        self.tally.add({0: "without an answer", 503: "not done", 504: "unknown"}[status])
        return None

    def counted(self, path: str, *words: str) -> Any:
        """The answer of a request that counts once, whatever is cut off."""
        self.number += 1
        stamp = ["-H", f"Queue-Session: {self.session}", "-H", f"Queue-Number: {self.number}", "-X", "POST"]
        if self.random.random() < CUT_OFF:
            # About as long as a request takes, so that it ends before, while and after it is done.
            self.once(path, *stamp, *words, seconds=self.random.uniform(0.001, 0.03))
        return json.loads(until(f"an answer to {path}", lambda: self.once(path, *stamp, *words), 60))


def shared(work: Callable[[Caller, int], None], nodes: List[str], tally: Tally) -> None:
    """Splits the messages among workers, and fails if one of them does."""
    failures: List[BaseException] = []

    def run(worker: int) -> None:
        try:
            caller = Caller(nodes, SEED + worker, tally)
            for number in range(worker, COUNT, WORKERS):
                work(caller, number)
        except BaseException as error:  # noqa: B902
            failures.append(error)

    threads = [threading.Thread(target=run, args=(worker,)) for worker in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def main() -> None:
    print(f"seed {SEED}: CURL_SEED={SEED} repeats it")
    tally, ended, kills = Tally(), threading.Event(), [0]
    with Cluster(3) as cluster:
        nodes = [node.http for node in cluster.nodes]

        def strike() -> None:
            while not ended.wait(3):
                leader = cluster.leader()
                leader.kill()
                kills[0] += 1
                time.sleep(0.5)
                leader.start()
                cluster.ctl("cluster", "wait", "--for", "quorum")

        striking = threading.Thread(target=strike)
        striking.start()
        ids: List[str] = []
        leased: List[Tuple[str, int]] = []

        def push(caller: Caller, number: int) -> None:
            answer = caller.counted("/v1/queues/jobs/messages", "-H", "Queue-Create: true", "-d", f"job {number}")
            ids.append(answer["id"])

        def lease(caller: Caller, _: int) -> None:
            answer = caller.counted("/v1/queues/jobs/leases", "-d", '{"max": 1, "lease_ms": 3600000}')
            (message,) = answer["messages"]
            leased.append((message["body"], message["attempt"]))
            settled = caller.counted("/v1/ack", "-d", json.dumps({"receipts": [message["receipt"]]}))
            assert "stale" not in json.dumps(settled), settled

        try:
            shared(push, nodes, tally)
            pushed = cluster.counts("jobs")
            assert len(set(ids)) == len(ids) == COUNT, f"{len(ids)} ids, {len(set(ids))} of them different"
            assert pushed["pushed_total"] == pushed["ready"] == COUNT, pushed
            print(f"ok  {COUNT} pushes, each stored once", flush=True)
            shared(lease, nodes, tally)
        finally:
            ended.set()
            striking.join()
        counts = cluster.counts("jobs")
        bodies = sorted(body for body, _ in leased)
        assert bodies == sorted(f"job {number}" for number in range(COUNT)), "some were handed out twice, some never"
        assert all(attempt == 1 for _, attempt in leased), "some were leased for an answer that nobody got"
        expected = {"ready": 0, "leased": 0, "dead": 0, "leased_total": COUNT, "acked_total": COUNT}
        assert {name: counts[name] for name in expected} == expected, counts
        print(f"ok  {COUNT} leases and acks, each counted once; {kills[0]} leaders killed")
        cut = tally.counts.get("without an answer", 0)
        assert cut >= COUNT / 2 and kills[0] >= 2, "the run proves nothing"
        print(f"ok  requests that were repeated: {', '.join(f'{count} {what}' for what, count in tally.counts.items())}")


main()
