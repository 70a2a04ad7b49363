"""A real Envoy in a process of its own, on free ports, by a configuration of the repository."""

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Envoy:
    """A running Envoy."""

    url: str
    admin: httpx.AsyncClient
    log: Path

    async def counted(self, name: str) -> int:
        """A counter or gauge of its own; 0 if there is none of that name."""
        answer = await self.admin.get("/stats", params={"filter": f"^{name}$"})
        return int(answer.text.partition(": ")[2] or 0)

    async def until(self, name: str, value: int = 1) -> None:
        """Wait until a counter or gauge is at least this much."""
        async with asyncio.timeout(READY_SECONDS):
            while await self.counted(name) < value:  # noqa: ASYNC110 - Envoy tells nobody
                await asyncio.sleep(0.05)


def configuration(name: str, endpoints: Mapping[str, int]) -> dict[str, Any]:
    """A configuration of `deploy/envoy` with its clusters at these ports of the loopback interface,
    and itself on free ones."""
    text = (ROOT / "deploy" / "envoy" / name).read_text(encoding="utf-8")
    config: dict[str, Any] = copy.deepcopy(yaml.safe_load(text))
    _listen(config["admin"])
    for listener in config["static_resources"]["listeners"]:
        _listen(listener)
    for cluster in config["static_resources"]["clusters"]:
        cluster["type"] = "STATIC"
        for place in cluster["load_assignment"]["endpoints"]:
            for each in place["lb_endpoints"]:
                address = each["endpoint"]["address"]["socket_address"]
                address |= {"address": LOOPBACK, "port_value": endpoints[cluster["name"]]}
        for check in cluster.get("health_checks", ()):
            check |= {"interval": "0.2s", "no_traffic_interval": "0.2s"}
    return config


def _listen(part: dict[str, Any]) -> None:
    part["address"]["socket_address"] |= {"address": LOOPBACK, "port_value": 0}


@asynccontextmanager
async def running_envoy(
    program: str, config: Mapping[str, Any], folder: Path
) -> AsyncIterator[Envoy]:
    """Envoy while the context lasts, once it listens."""
    file, admin_file, log = folder / "envoy.yaml", folder / "admin", folder / "envoy.log"
    await asyncio.to_thread(admin_file.unlink, missing_ok=True)  # another Envoy's
    await asyncio.to_thread(file.write_text, yaml.safe_dump(dict(config)), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(program, "-c", str(file), "--disable-hot-restart", "--concurrency", "1"),
        *("--admin-address-path", str(admin_file), "--log-path", str(log), "-l", "info"),
    )
    try:
        address = await _written(admin_file, process)
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=READY_SECONDS) as admin:
            await _live(admin)
            listeners = (await admin.get("/listeners", params={"format": "json"})).json()
            address = listeners["listener_statuses"][0]["local_address"]["socket_address"]
            yield Envoy(f"http://{LOOPBACK}:{address['port_value']}", admin, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _written(file: Path, process: asyncio.subprocess.Process) -> str:
    """What Envoy writes into a file, once it has."""
    async with asyncio.timeout(READY_SECONDS):
        while not (text := await asyncio.to_thread(_content, file)):
            assert process.returncode is None, "Envoy did not start: see envoy.log"
            await asyncio.sleep(0.02)
    return text


def _content(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


async def _live(admin: httpx.AsyncClient) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while (await admin.get("/ready")).text.strip() != "LIVE":  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
