"""Guards in processes of their own, found by a name, that are replaced as Kubernetes does it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from guard_service.client.health import require_serving
from guard_service.moderation import NotReady
from tests.dns_server import Names, name_server
from tests.free_port import port_free_on

ROOT = Path(__file__).parents[2]
NAME = "guard.test"
ADDRESSES = tuple(f"127.0.0.{number}" for number in range(1, 10))
READY_SECONDS = 240.0

Command = Callable[[str, int], Sequence[str]]
"""From an address and a port to the command that serves there."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A guard's process, and where it listens."""

    address: str
    process: asyncio.subprocess.Process


@dataclass
class Fleet:
    """The name lists the guards that are ready and were not told to stop.

    Each has an address of its own; one that replaces another has a new one.
    """

    command: Command
    names: Names
    port: int
    replicas: list[Replica] = field(default_factory=list)
    _fresh: list[str] = field(default_factory=lambda: list(ADDRESSES))
    _processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def target(self) -> str:
        """Where a client finds all guards."""
        return f"dns://127.0.0.1:{self.names.port}/{NAME}:{self.port}"

    async def add(self, address: str | None = None) -> Replica:
        """Start a guard, and list it once it is ready."""
        address = address or self._fresh.pop(0)
        process = await asyncio.create_subprocess_exec(
            *self.command(address, self.port),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=ROOT,
        )
        self._processes.append(process)
        replica = Replica(address, process)
        self.replicas.append(replica)
        await self._until_ready(replica)
        self.names.addresses = [*self.names.addresses, address]
        return replica

    def tell_to_stop(self, replica: Replica) -> asyncio.Task[None]:
        """Tell a guard to stop, and wait in the background until it has, with nothing lost."""
        replica.process.terminate()
        self._forget(replica)
        return asyncio.create_task(_ended_well(replica))

    async def replace_all(self, *, spare: bool, pause_seconds: float) -> None:
        """Replace one guard after the other.

        With a `spare`, a new one is ready before an old one is told to stop; else it starts when
        the old one has ended. No old one goes before the latest was ready for `pause_seconds`.
        """
        stopping = []
        for number, old in enumerate(tuple(self.replicas)):
            if spare:
                await self.add()
            if spare or number:
                await asyncio.sleep(pause_seconds)
            stopping.append(self.tell_to_stop(old))
            if not spare:
                await stopping[-1]
                await self.add()
        await asyncio.gather(*stopping)

    async def kill_one(self) -> None:
        """Kill a guard, and start it again where it was."""
        killed = self.replicas[0]
        killed.process.kill()
        self._forget(killed)
        await killed.process.wait()
        await self.add(killed.address)

    async def end(self) -> None:
        """Leave no process behind."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def _forget(self, replica: Replica) -> None:
        self.replicas.remove(replica)
        self.names.addresses = [each for each in self.names.addresses if each != replica.address]

    async def _until_ready(self, replica: Replica) -> None:
        async with asyncio.timeout(READY_SECONDS):
            while not await asyncio.to_thread(_is_ready, f"{replica.address}:{self.port}"):
                assert replica.process.returncode is None, f"{replica.address} did not start"
                await asyncio.sleep(0.2)


@asynccontextmanager
async def running_fleet(command: Command, size: int = 2) -> AsyncIterator[Fleet]:
    """So many guards while the context lasts, once all are ready."""
    async with name_server() as names:
        fleet = Fleet(command, names, port_free_on(ADDRESSES))
        try:
            await asyncio.gather(*(fleet.add() for _ in range(size)))
            yield fleet
        finally:
            await fleet.end()


async def _ended_well(replica: Replica) -> None:
    assert await replica.process.wait() == 0, f"{replica.address} left work undone"


def _is_ready(target: str) -> bool:
    try:
        require_serving(target, "ready", timeout_seconds=2)
    except NotReady:
        return False
    return True
