"""The pods of the Kubernetes manifest as processes, each in namespaces of its own: `tests/interop kubernetes`.

    kubernetes.py BIN_DIR        needs root, iproute2, util-linux and PyYAML

What the manifest says of a pod is done: command and environment, user and group, a root that is read-only, no capabilities, the
volume, the secret with its mode, both probes. A bridge stands in for the network, /etc/hosts for its DNS. All pods are killed and
come back at other addresses at once; then each is stopped and comes back at another one, as an update of the manifest does it.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import yaml

PACKAGING = Path(__file__).parents[2] / "broker/packaging"
# Addresses of the pods by generation, and of this machine, in one network.
NETWORKS = ["10.88.1", "10.88.2", "10.88.3"]
HERE = "10.88.0.1/16"


def run(*words: str, **more: Any) -> str:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def until(what: str, done: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


class Manifest:
    """What is asked of each pod."""

    def __init__(self) -> None:
        documents = list(yaml.safe_load_all((PACKAGING / "kubernetes/queued.yaml").read_text()))
        (workload,) = [one for one in documents if one["kind"] == "StatefulSet"]
        (service,) = [one for one in documents if one["kind"] == "Service"]
        self.count = workload["spec"]["replicas"]
        self.service, self.port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
        assert workload["spec"]["serviceName"] == self.service and service["spec"]["publishNotReadyAddresses"]
        assert workload["spec"]["podManagementPolicy"] == "Parallel"
        spec = workload["spec"]["template"]["spec"]
        (self.container,) = spec["containers"]
        self.name = workload["metadata"]["name"]
        self.context, self.grace = spec["securityContext"], spec["terminationGracePeriodSeconds"]
        inside = self.container["securityContext"]
        assert inside["readOnlyRootFilesystem"] and inside["capabilities"]["drop"] == ["ALL"]
        assert self.context["runAsNonRoot"] and not inside["allowPrivilegeEscalation"] and not spec["enableServiceLinks"]
        (volume,) = spec["volumes"]
        self.secret_mode = volume["secret"]["defaultMode"]
        self.mounts = {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}

    def env(self, pod: str) -> Dict[str, str]:
        # Runtimes set it.
        env: Dict[str, str] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        for one in self.container["env"]:
            if "value" in one:
                value = one["value"]
                for name, known in env.items():
                    value = value.replace(f"$({name})", known)
            else:
                assert one["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
                value = pod
            env[one["name"]] = value
        return env


class Pod:
    """One process, with a network, mounts and a root of its own."""

    def __init__(self, manifest: Manifest, number: int, directory: Path, bin_dir: Path) -> None:
        self.manifest, self.number, self.name = manifest, number, f"{manifest.name}-{number}"
        self.host = f"{self.name}.{manifest.service}"
        self.directory, self.bin, self.root = directory, bin_dir, directory / self.name / "root"
        self.process: Optional[subprocess.Popen] = None
        self.user = f"{manifest.context['runAsUser']}:{manifest.context['runAsGroup']}"
        self.root.mkdir(parents=True)
        for place in ("proc", "etc", "usr", "lib", "lib64", "data", "secret"):
            (self.root / place).mkdir()
        for file in ("queued", "etc/hosts"):
            (self.root / file).touch()
        data = directory / self.name / "data"
        data.mkdir()
        # As fsGroup does: the group's.
        os.chown(data, 0, manifest.context["fsGroup"])
        data.chmod(0o2775)
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", f"pod{number}", "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "link", "set", f"pod{number}", "master", "pods", "up")
        self.ip("link", "set", "lo", "up")
        self.ip("link", "set", "eth0", "up")

    def ip(self, *words: str) -> None:
        run("ip", "-n", self.name, *words)

    def place(self, network: str) -> None:
        self.ip("addr", "flush", "dev", "eth0")
        self.ip("addr", "add", f"{network}.{self.number + 1}/16", "dev", "eth0")

    def script(self, words: List[str]) -> List[str]:
        """Runs `words` inside: as the user, with nothing to write on but the volume."""
        ro = "mount --bind -o ro"
        mounts = [f"{ro} {self.bin}/queued queued", f"{ro} {self.directory}/hosts etc/hosts"]
        mounts += [f"mount --rbind -o ro /{place} {place}" for place in ("usr", "lib", "lib64")]
        mounts += ["mount -t proc proc proc", f"mount --bind {self.directory}/{self.name}/data data"]
        mounts += [f"{ro} {self.directory}/secret secret", "mount -o remount,ro,bind ."]
        lines = ["set -e", "mount --make-rprivate /", f"cd {self.root}", "mount --bind . .", f"cd {self.root}", *mounts]
        groups = self.manifest.context["fsGroup"]
        lines.append(f'exec setpriv --no-new-privs chroot --userspec={self.user} --groups={groups} . "$@"')
        return ["ip", "netns", "exec", self.name, "unshare", "--mount", "sh", "-c", "\n".join(lines), "pod", *words]

    def start(self) -> None:
        args = self.manifest.container["args"]
        with open(self.directory / f"{self.name}.log", "a") as log:
            command = self.script(["/queued", *args, "--log-level", "warn"])
            self.process = subprocess.Popen(command, env=self.manifest.env(self.name), stderr=log)

    def end(self, kill: bool) -> None:
        assert self.process is not None
        self.process.kill() if kill else self.process.terminate()
        self.process.wait(self.manifest.grace)
        assert kill or self.process.returncode == 0, f"{self.name} ended with {self.process.returncode}"

    def probe(self, name: str) -> bool:
        command = self.script(self.manifest.container[name]["exec"]["command"])
        return subprocess.run(command, env=self.manifest.env(self.name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


class Pods:
    """All of them."""

    def __init__(self, directory: Path, bin_dir: Path) -> None:
        self.manifest, self.directory, self.bin = Manifest(), directory, bin_dir
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "pods", "type", "bridge")
        run("ip", "link", "set", "pods", "up")
        run("ip", "addr", "add", HERE, "dev", "pods")
        (directory / "secret").mkdir()
        secret = directory / "secret/secret"
        secret.write_text(secrets.token_hex(32))
        os.chown(secret, 0, self.manifest.context["fsGroup"])
        secret.chmod(self.manifest.secret_mode)
        (directory / "hosts").touch()
        run("mount", "--bind", str(directory / "hosts"), "/etc/hosts")
        self.pods = [Pod(self.manifest, number, directory, bin_dir) for number in range(self.manifest.count)]
        self.networks = [NETWORKS[0]] * self.manifest.count
        self.servers = ",".join(f"{pod.host}:{self.manifest.port}" for pod in self.pods)

    def place(self, number: int, network: str) -> None:
        self.networks[number] = network
        self.pods[number].place(network)
        names = [f"{self.networks[pod.number]}.{pod.number + 1} {pod.host}" for pod in self.pods]
        # In place: it is mounted.
        (self.directory / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names]) + "\n")

    def ctl(self, *words: str) -> str:
        return run(str(self.bin / "queuectl"), "--servers", self.servers, "--timeout", "30s", *words)

    def all_ready(self) -> None:
        until("all pods are ready", lambda: all(pod.probe("readinessProbe") for pod in self.pods))
        assert all(pod.probe("livenessProbe") for pod in self.pods)
        self.ctl("cluster", "wait", "--for", f"voters={self.manifest.count}")

    def holds(self, word: str) -> None:
        """A message of before is there, and one for the next time is stored."""
        assert self.ctl("pop", "mail") == f"{word}\n"
        self.ctl("push", "mail", word, "-q")


def story(pods: Pods) -> None:
    for pod in pods.pods:
        pods.place(pod.number, NETWORKS[0])
    begin = time.monotonic()
    for pod in pods.pods:
        pod.start()
    pods.all_ready()
    pods.ctl("push", "mail", "kept", "--create", "-q")
    print(f"ok  the pods of the manifest are ready after {time.monotonic() - begin:.1f} s, as {pods.pods[0].user}, root read-only")

    for pod in pods.pods:
        pod.end(kill=True)
    for pod in pods.pods:
        pods.place(pod.number, NETWORKS[1])
    assert not pods.pods[0].probe("livenessProbe"), "a probe says yes of a pod that is gone"
    begin = time.monotonic()
    for pod in pods.pods:
        pod.start()
    pods.all_ready()
    pods.holds("kept")
    print(f"ok  all killed, all at other addresses: ready after {time.monotonic() - begin:.1f} s, the message is there")

    for pod in reversed(pods.pods):
        pod.end(kill=False)
        pods.place(pod.number, NETWORKS[2])
        pod.start()
        pods.all_ready()
        pods.holds("kept")
    print("ok  one after the other at other addresses, as an update goes: the message is there")


def main() -> None:
    if os.environ.get("INSIDE") != "yes":
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", sys.executable, *sys.argv]
        sys.exit(subprocess.run(command, env={**os.environ, "INSIDE": "yes"}).returncode)
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("mount", "-t", "proc", "proc", "/proc")
    directory = Path(tempfile.mkdtemp(prefix="queued-pods-"))
    try:
        pods = Pods(directory, Path(sys.argv[1]).resolve())
        try:
            story(pods)
        except BaseException:
            for log in sorted(directory.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-3_000:]}")
            raise
        finally:
            for pod in pods.pods:
                if pod.process is not None:
                    pod.process.kill()
                    pod.process.wait()
    finally:
        shutil.rmtree(directory)


main()
