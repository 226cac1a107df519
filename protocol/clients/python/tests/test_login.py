"""Logins at real nodes: by a token in a file, over TLS and over loopback, and nobody else."""

import asyncio
from typing import Iterator

import pytest

import queued
from queued import _auth, wire
from queued.pytest_plugin import Cluster


@pytest.fixture(scope="module", params=[False, True], ids=["loopback", "tls"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    cluster = Cluster(1, tls=request.param, auth=True)
    yield cluster
    cluster.stop()


def test_who_has_the_token_is_served_and_nobody_else(cluster: Cluster) -> None:
    tls = queued.Tls(ca=cluster.ca) if cluster.ca else None

    async def work() -> None:
        async with queued.connect(cluster.servers, tls=tls, token=cluster.token) as client:
            view = (await client.call(wire.request.Whoami())).answer.value
            assert (view.principal, view.required) == ("dev", True)
            await client.push("l1", b"x", create=True)
            (message,) = await client.lease("l1", wait=5)
            await message.ack()
        async with queued.connect(cluster.servers, tls=tls) as client:
            with pytest.raises(queued.Incompatible, match="auth_required"):
                await client.push("l1", b"x")
        stranger = "qk1_gaytemzugu3doobza4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4d634q"
        assert _auth.Token.parse(stranger).key == b"0123456789"
        async with queued.connect(cluster.servers, tls=tls, token=stranger) as client:
            with pytest.raises(queued.Incompatible, match="auth_failed"):
                await client.push("l1", b"x")

    asyncio.run(asyncio.wait_for(work(), 30))


def test_a_token_that_is_none_is_found_at_once() -> None:
    with pytest.raises(ValueError, match="not a token"):
        queued.connect("127.0.0.1:1", token="qk1_mistyped")
