"""Fixture ``queued_cluster``: a throw-away cluster for the tests of one session, started by ``queued dev``.

The program ``queued`` is the one in ``$QUEUED``, or the one in ``$PATH``.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Iterator, List, Optional

import pytest

_SCRIPT = 'printf "%s\\t%s\\t%s\\n" "$QUEUECTL_SERVERS" "$QUEUECTL_TLS_CA" "$QUEUECTL_TOKEN_FILE"; exec cat >/dev/null'


class Cluster:
    """A running cluster; with ``tls`` its nodes speak nothing else, with ``auth`` they serve only who logs in."""

    def __init__(self, nodes: int = 1, program: Optional[str] = None, tls: bool = False, auth: bool = False) -> None:
        program = program or os.environ.get("QUEUED") or shutil.which("queued")
        if program is None:
            raise RuntimeError("no program queued: put it into $PATH or name it in $QUEUED")
        command = [program, "dev", "--nodes", str(nodes), "--any-port", "--quiet", "--", "sh", "-c", _SCRIPT]
        command[2:2] = ["--tls"] * tls + ["--auth"] * auth
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline().rstrip("\n")
        if not line:
            raise RuntimeError(f"`{' '.join(command)}` did not start: exit status {self._process.wait()}")
        #: What clients are told.
        self.servers, ca, token = line.split("\t")
        #: The file of the authority, with ``tls``.
        self.ca: Optional[str] = ca or None
        #: The file of a token that may everything, with ``auth``.
        self.token: Optional[Path] = Path(token) if token else None

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
