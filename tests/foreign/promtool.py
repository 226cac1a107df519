"""What a node tells Prometheus, and the files that ask for it, under Prometheus' own checks: `tests/interop promtool`.

Needs $QUEUED, $QUEUECTL, $PROMTOOL, and the package prometheus-client.
"""

import gzip
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import List, Set

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

from dashboard import PACKAGING, queries
from nodes import Cluster, Node, http, until

PROMTOOL = os.environ["PROMTOOL"]
README = Path(__file__).parents[2] / "README.md"
# What Prometheus itself says of a target.
OF_PROMETHEUS = {"up"}
WORDS = re.compile(r"\b(?:up\b|(?:queued|process)_[a-z0-9_]+)")


def promtool(*words: str, text: str = "") -> str:
    done = subprocess.run([PROMTOOL, *words], input=text, capture_output=True, text=True)
    assert done.returncode == 0, f"promtool {words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def named_in(page: bytes) -> Set[str]:
    return {line.split("{")[0].split(" ")[0] for line in page.decode().splitlines() if not line.startswith("#")}


def scraped(node: Node, what: str) -> Set[str]:
    """Checks both formats of a node's page; the names of its samples."""
    status, plain = http(f"http://{node.http}/metrics")
    assert status == 200
    said = promtool("check", "metrics", text=plain.decode())
    assert not said.strip(), f"{what}: {said}"
    status, packed = http(f"http://{node.http}/metrics", Accept_Encoding="gzip")
    assert status == 200 and named_in(gzip.decompress(packed)) == named_in(plain), f"{what}: packed it says something else"
    status, strict = http(f"http://{node.http}/metrics", Accept="application/openmetrics-text")
    assert status == 200
    families = list(text_string_to_metric_families(strict.decode()))
    names = {sample.name for family in families for sample in family.samples}
    older = {sample.name for family in plain_families(plain.decode()) for sample in family.samples}
    # Requests and refusals may be counted between the two.
    assert older == names or what == "empty", f"{what}: the formats differ in {older ^ names}"
    print(f"ok  {what}: {len(plain) >> 10} KiB, {len(names)} names")
    return names


def loaded(cluster: Cluster) -> None:
    """Queues in every state, with names that must be escaped nowhere and sorted everywhere."""
    for number in range(20):
        cluster.ctl("push", f"q{number}", *[f"m{n}" for n in range(number + 1)], "--create", "-q")
    cluster.ctl("push", "q1", "later", "--delay", "1h", "-q")
    cluster.ctl("lease", "q2", "--json")
    receipt = cluster.ctl("lease", "q3", "--json")
    receipt = json.loads(receipt.splitlines()[0])["receipt"]
    cluster.ctl("nack", receipt, "--reject", "-q")
    cluster.ctl("pop", "q4", "-q")
    cluster.ctl("queue", "create", "full.one", "--max-messages", "1")
    cluster.ctl("push", "full.one", "x", "-q")


def parsed(queries: List[str]) -> str:
    """What promtool says of these queries, as rules of a file."""
    # JSON is YAML.
    rules = [{"record": f"query_{at}", "expr": query} for at, query in enumerate(queries)]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        return promtool("check", "rules", file.name)


def named(text: str) -> Set[str]:
    """Metrics that a text names; `x{a,b}_total` of the README is `x_a_total` and `x_b_total`."""
    names = set()
    for word in re.findall(r"(?:queued|process)_[a-z0-9_]*(?:\{[a-z_,]+\}[a-z_]+)?[a-z0-9_*]*", text):
        several = re.fullmatch(r"(\w+)\{([a-z_,]+)\}(\w+)", word)
        names |= {f"{several[1]}{one}{several[3]}" for one in several[2].split(",")} if several else {word}
    return names


def main() -> None:
    # A query that is none is refused, and a name that is none is found.
    try:
        parsed(["sum by (x) (queued_ready", "1"])
        raise SystemExit("promtool takes anything")
    except AssertionError:
        pass
    assert named("queued_a_{b,c}_total, `queued_d_seconds`") == {"queued_a_b_total", "queued_a_c_total", "queued_d_seconds"}

    with Cluster(3) as cluster:
        scraped(cluster.leader(), "empty")
        loaded(cluster)
        learner = cluster.learner("n4")
        until("the learner serves", lambda: http(f"http://{learner.http}/readyz")[0] == 200)
        leader = cluster.leader()
        follower = next(node for node in cluster.nodes[:3] if node is not leader)
        for node in cluster.nodes:
            http(f"http://{node.http}/livez")
        there = scraped(leader, "leader, loaded")
        of_follower = scraped(follower, "follower")
        there |= of_follower | scraped(learner, "learner")
        queues = {name for name in there if name.startswith("queued_queue_") or name == "queued_messages"}
        assert queues and not queues & of_follower, "a follower tells of queues, which makes sums wrong"

    there |= OF_PROMETHEUS
    asked = queries()
    parsed(list(asked.values()))
    texts = dict(asked)
    for file in ("alerts.yml", "rules.yml", "alerts.test.yml"):
        for at, line in enumerate((PACKAGING / "prometheus" / file).read_text().splitlines(), 1):
            texts[f"{file}:{at}"] = line
    missing = [f"{where}: {name}" for where, text in texts.items() for name in WORDS.findall(text) if name not in there]
    table = README.read_text().split("### Metrics", 1)[1].split("\n## ", 1)[0]
    told = {name for name in named(table) if not name.endswith("_*") and not name.endswith("*")}
    histograms = {name[: -len("_bucket")] for name in there if name.endswith("_bucket")}
    missing += [f"README: {name}" for name in told if name not in there | histograms]
    assert not missing, missing
    shown = {name for query in asked.values() for name in WORDS.findall(query)}
    print(f"ok  dashboard: {len(asked)} queries parsed, {len(shown)} metrics, all of them there")
    print(f"ok  alerts, rules and README name {len(told)} and more metrics, all of them there")


main()
