"""A real API server and its etcd on loopback: no nodes, no controllers, nothing runs."""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import yaml

from tests.deploy.manifests import Object
from tests.deploy.processes import free_port, program, until

NAMESPACE = "moderation"
TOKEN = "only-for-this-server"
NOWHERE = "192.0.2.1"
"""The server must say where it is; loopback is refused, and nobody asks."""

Finished = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Programs:
    """Where the programs are."""

    api_server: str
    etcd: str
    kubectl: str
    openssl: str


@dataclass
class ApiServer:
    """A running server, spoken to by kubectl."""

    kubectl_program: str
    folder: Path
    _kinds: dict[str, set[str]] = field(default_factory=dict)

    def kubectl(self, *arguments: str, objects: Iterable[Object] = ()) -> Finished:
        """Run kubectl, with the objects on its standard input."""
        return subprocess.run(
            [self.kubectl_program, f"--kubeconfig={self.folder / 'config'}", *arguments],
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}),
            env=os.environ | {"KUBECACHEDIR": str(self.folder / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )

    def apply(self, objects: Iterable[Object], *options: str) -> Finished:
        return self.kubectl("apply", "--filename=-", *options, objects=objects)

    def stored(self, sent: Object) -> Object | None:
        """The object of this kind and name as the server has it."""
        metadata = sent["metadata"]
        where = [f"--namespace={metadata['namespace']}"] if "namespace" in metadata else []
        group, _, version = sent["apiVersion"].rpartition("/")
        resource = ".".join(filter(None, (sent["kind"], version if group else "", group)))
        finished = self.kubectl(
            "get", resource, metadata["name"], *where, "--ignore-not-found", "--output=json"
        )
        assert finished.returncode == 0, finished.stderr
        found: Object | None = json.loads(finished.stdout) if finished.stdout else None
        return found

    def all(self, resource: str) -> list[Object]:
        """Those in the namespace of our renders."""
        finished = self.kubectl("get", resource, f"--namespace={NAMESPACE}", "--output=json")
        assert finished.returncode == 0, finished.stderr
        found: list[Object] = json.loads(finished.stdout)["items"]
        return found

    def kept(self, sent: Object) -> Object:
        """The object as the server has it, which it must."""
        found = self.stored(sent)
        assert found is not None, f"no {sent['kind']}/{sent['metadata']['name']}"
        return found

    @cached_property
    def version(self) -> str:
        """As the server tells it, like `v1.20.2`."""
        told: str = json.loads(self.kubectl("get", "--raw=/version").stdout)["gitVersion"]
        return told

    def serves(self, each: Object) -> bool:
        """Whether the server knows objects of this version and kind."""
        api = each["apiVersion"]
        if api not in self._kinds:
            found = self.kubectl("get", f"--raw=/{'apis' if '/' in api else 'api'}/{api}")
            known = json.loads(found.stdout)["resources"] if found.returncode == 0 else []
            self._kinds[api] = {resource["kind"] for resource in known}
        return each["kind"] in self._kinds[api]

    def is_ready(self) -> bool | None:
        return self.kubectl("get", "--raw=/readyz").stdout == "ok" or None


@contextmanager
def api_server(programs: Programs, folder: Path) -> Iterator[ApiServer]:
    """A server that holds nothing yet; it is gone at the end."""
    etcd, port = (f"http://127.0.0.1:{free_port()}" for _ in range(2)), free_port()
    clients, peers = etcd
    key = folder / "accounts.key"
    subprocess.run([programs.openssl, "genrsa", "-out", key, "2048"], check=True, stderr=-3)
    (folder / "tokens.csv").write_text(f"{TOKEN},test,test,system:masters\n")
    (folder / "config").write_text(yaml.safe_dump(_config(port, folder)))
    with (
        program(_etcd(programs, clients, peers, folder), folder / "etcd.log"),
        program(_server(programs, clients, port, folder), folder / "api-server.log"),
    ):
        server = ApiServer(programs.kubectl, folder)
        until(server.is_ready, "the API server is ready")
        yield server


@contextmanager
def controllers(manager: str, server: ApiServer, *flags: str) -> Iterator[None]:
    """Those that make pods and count them; without nodes the pods stay pending."""
    command = [
        manager,
        f"--kubeconfig={server.folder / 'config'}",
        f"--cert-dir={server.folder / 'certificates-of-controllers'}",
        "--bind-address=127.0.0.1",
        f"--secure-port={free_port()}",
        "--leader-elect=false",
        "--controllers=deployment,replicaset,job,disruption",
        *flags,
    ]
    with program(command, server.folder / "controllers.log"):
        yield


def _etcd(programs: Programs, clients: str, peers: str, folder: Path) -> list[str]:
    return [
        programs.etcd,
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
    ]


def _server(programs: Programs, etcd: str, port: int, folder: Path) -> list[str]:
    key = folder / "accounts.key"
    return [
        programs.api_server,
        f"--etcd-servers={etcd}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--advertise-address={NOWHERE}",
        "--endpoint-reconciler-type=none",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.0.0.0/24",
    ]


def _config(port: int, folder: Path) -> Object:
    certificate = str(folder / "certificates" / "apiserver.crt")
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": certificate}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
