"""TLS of the client against nodes that speak nothing else; strangers and older versions are in the conformance kit."""

import asyncio
import os
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List

import pytest

import queued
from queued import _tls
from queued.pytest_plugin import Cluster

WRONG = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(3, tls=True)
    yield cluster
    cluster.stop()


def pins(cluster: Cluster) -> List[str]:
    """The keys of all nodes, as `queued cert show` prints them."""
    assert cluster.ca is not None
    files = [file for file in Path(cluster.ca).parent.rglob("*.crt") if file != Path(cluster.ca)]
    shown = "".join(subprocess.check_output([os.environ["QUEUED"], "cert", "show", file], text=True) for file in files)
    found = re.findall(r"^pin +(sha256:[0-9a-f]{64})$", shown, re.MULTILINE)
    assert found
    return found


def test_both_faces_speak_tls(cluster: Cluster) -> None:
    async def work() -> None:
        async with queued.connect(cluster.servers, tls=queued.Tls(ca=cluster.ca)) as client:
            pushed = await client.push("t1", b"x" * 500_000, create=True)
            (message,) = await client.lease("t1", wait=5)
            assert (message.id, message.body) == (pushed.id, b"x" * 500_000)
            await message.ack()
            view = await client.status(cluster.addresses[2])
            assert len(view.members) == 3

    asyncio.run(asyncio.wait_for(work(), 30))
    with queued.SyncClient(cluster.servers, tls=queued.Tls(ca=cluster.ca)) as client:
        client.push("t2", b"y", create=True)
        assert [message.body for message in client.pop("t2")] == [b"y"]


def test_a_pin_is_what_the_broker_says_it_is(cluster: Cluster) -> None:
    # All nodes of `dev` show the same certificate, or the client finds the leader among those of this key.
    accepted = []
    for pin in sorted(set(pins(cluster))):
        for address in cluster.addresses:
            with queued.SyncClient(address, tls=queued.Tls(pin=pin.upper().replace("SHA", "sha"))) as client:
                try:
                    accepted.append(client.run(client.client.status(address)).name)
                except queued.Untrusted as untrusted:
                    assert f"not {pin}" in str(untrusted)
    assert len(accepted) == 3
    with pytest.raises(queued.Untrusted, match=f"its key is sha256:[0-9a-f]+, not {WRONG}"):
        queued.SyncClient(cluster.servers, tls=queued.Tls(pin=WRONG)).push("t3", b"x", create=True)


def test_trust_is_not_reach(cluster: Cluster, tmp_path: Path) -> None:
    subprocess.run([os.environ["QUEUED"], "cert", "ca"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    for tls in (queued.Tls(ca=tmp_path / "ca.crt"), queued.Tls()):
        with queued.SyncClient(cluster.servers, tls=tls) as stranger:
            with pytest.raises(queued.Untrusted, match="its certificate is not trusted: .*issuer"):
                stranger.push("t4", b"x", create=True)
            with pytest.raises(queued.Untrusted):
                stranger.run(stranger.client.status(cluster.addresses[0]))
    with queued.SyncClient(cluster.servers) as plain, pytest.raises(queued.Incompatible, match="tls_required"):
        plain.push("t4", b"x", create=True)
    with queued.SyncClient("127.0.0.1:1", timeout=0.5, tls=queued.Tls(ca=cluster.ca)) as nobody:
        with pytest.raises(queued.Unavailable):
            nobody.push("t4", b"x", create=True)


def test_authorities_are_read_anew_at_each_dial(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.ca is not None
    subprocess.run([os.environ["QUEUED"], "cert", "ca"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    ca = tmp_path / "ca.crt"
    with queued.SyncClient(cluster.servers, tls=queued.Tls(ca=ca)) as client:
        with pytest.raises(queued.Untrusted):
            client.push("t5", b"x", create=True)
        ca.write_bytes(Path(cluster.ca).read_bytes())
        client.push("t5", b"x", create=True)


def test_a_worker_works_over_tls(cluster: Cluster) -> None:
    tls = queued.Tls(ca=cluster.ca)
    with queued.SyncClient(cluster.servers, tls=tls) as client:
        client.push("t6", b"x", create=True)
    script = (
        "import os, signal, sys, queued\n"
        "@queued.worker('t6')\n"
        "def handle(message):\n"
        "    print(message.body.decode(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "handle.run(sys.argv[1], tls=queued.Tls(ca=sys.argv[2]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(queued.__file__).parents[1])}
    assert cluster.ca is not None
    command = [sys.executable, "-c", script, cluster.servers, cluster.ca]
    assert subprocess.check_output(command, env=environment, timeout=30, text=True) == "x\n"
    with queued.SyncClient(cluster.servers, tls=tls) as client:
        view = client.queue("t6")
        assert view is not None and view.acked_total == 1


def test_what_cannot_be_meant_is_refused_before_anything_is_dialed(tmp_path: Path) -> None:
    for bad in ("", "sha256:", "sha1:" + "0" * 40, WRONG[:-1], WRONG + "0", "sha256:" + "g" * 64, WRONG + "\n"):
        with pytest.raises(ValueError, match="is not sha256: and 64 hex digits"):
            queued.Tls(pin=bad)
    with pytest.raises(ValueError, match="not both"):
        queued.Tls(ca="ca.crt", pin=WRONG)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        queued.Tls(ca=tmp_path / "nowhere")
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(ValueError, match="text holds no certificates in PEM"):
        queued.Tls(ca=tmp_path / "text")


def test_the_key_of_a_certificate_is_found_or_none_is(tmp_path: Path) -> None:
    for words in (["ca"], ["node", "mq", "--host", "127.0.0.1"]):
        subprocess.run([os.environ["QUEUED"], "cert", *words], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    certificate = ssl.PEM_cert_to_DER_cert((tmp_path / "mq.crt").read_text())
    shown = subprocess.check_output([os.environ["QUEUED"], "cert", "show", "mq.crt"], cwd=tmp_path, text=True)
    assert _tls.pin_of(certificate) in shown
    # A certificate that is cut off anywhere has no key, and no flipped bit raises anything else.
    for size in range(len(certificate)):
        with pytest.raises(queued.Untrusted):
            _tls.pin_of(certificate[:size])
    for at in range(len(certificate)):
        flipped = bytearray(certificate)
        flipped[at] ^= 0x80
        try:
            _tls.pin_of(bytes(flipped))
        except queued.Untrusted:
            pass
