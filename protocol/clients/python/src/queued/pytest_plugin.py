"""Fixture ``queued_cluster``: a throw-away cluster for the tests of one session, started by ``queued dev``.

The program ``queued`` is the one in ``$QUEUED``, or the one in ``$PATH``.
"""

import os
import shutil
import subprocess
from typing import Iterator, List, Optional

import pytest

_SCRIPT = 'echo "$QUEUECTL_SERVERS $QUEUECTL_TLS_CA"; exec cat >/dev/null'


class Cluster:
    """A running cluster; with ``tls`` its nodes speak nothing else."""

    def __init__(self, nodes: int = 1, program: Optional[str] = None, tls: bool = False) -> None:
        program = program or os.environ.get("QUEUED") or shutil.which("queued")
        if program is None:
            raise RuntimeError("no program queued: put it into $PATH or name it in $QUEUED")
        command = [program, "dev", "--nodes", str(nodes), "--any-port", "--quiet", "--", "sh", "-c", _SCRIPT]
        command[2:2] = ["--tls"] if tls else []
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"`{' '.join(command)}` did not start: exit status {self._process.wait()}")
        #: What clients are told.
        self.servers, _, ca = line.partition(" ")
        #: The file of the authority, with ``tls``.
        self.ca: Optional[str] = ca or None

    @property
    def addresses(self) -> List[str]:
        """One for each node."""
        return self.servers.split(",")

    def stop(self) -> None:
        """Ends it; its data is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="session")
def queued_cluster() -> Iterator[Cluster]:
    """A cluster of one node, for all tests of the run."""
    cluster = Cluster(int(os.environ.get("QUEUED_NODES", "1")))
    yield cluster
    cluster.stop()
