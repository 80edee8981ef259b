"""docker-compose.yml: its commands make deployments that the doctor finds fit.

Without Docker: each service's command runs as a process of this machine, in a folder of
its own, on ports of its own.
"""

import os
import re
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis as redis_sync
import yaml

from aiodistlock.testing.child import spawn
from aiodistlock.testing.discovery import free_port
from tests.integrations.doctor_command import examined

ROOT = Path(__file__).parents[2]
FILE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
PROFILES = ("single", "sentinel", "cluster", "quorum")

SENTINELS = (26379, 26380, 26381)

URLS = {
    "single": ["redis://localhost:6379"],
    "sentinel": ["redis+sentinel://localhost:26379,localhost:26380,localhost:26381/mymaster"],
    "cluster": ["redis+cluster://localhost:7001,localhost:7002,localhost:7003"],
    "quorum": [f"redis://localhost:{port}" for port in range(6391, 6396)],
}


def services(profile: str) -> dict[str, dict[str, Any]]:
    """The services of a profile."""
    return {name: each for name, each in SERVICES.items() if each["profiles"] == [profile]}


def published(service: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """The ports of a service: on this machine, and in the container."""
    for mapping in service.get("ports", []):
        address, outside, inside = mapping.split(":")
        assert address == "127.0.0.1", "not for the network"
        ranges = [[int(port) for port in each.split("-")] for each in (outside, inside)]
        yield from zip(*(range(each[0], each[-1] + 1) for each in ranges), strict=True)


def test_every_service_belongs_to_one_profile() -> None:
    """The four that the docs name, and what shows the telemetry."""
    profiles = {each["profiles"][0] for each in SERVICES.values()}
    assert profiles == {*PROFILES, "telemetry"}
    sizes = {profile: len(services(profile)) for profile in PROFILES}
    assert sizes == {"single": 1, "sentinel": 7, "cluster": 7, "quorum": 5}


@pytest.mark.parametrize("profile", PROFILES)
def test_services_fit_together(profile: str) -> None:
    """A shared network is of the same profile; its ports are published, each once."""
    mine = services(profile)
    ports = [pair for each in mine.values() for pair in published(each)]
    outside = [port for port, _ in ports]
    assert len(set(outside)) == len(outside)
    for name, each in mine.items():
        assert each["image"] == "redis:8"
        if "network_mode" in each:
            net = each["network_mode"].removeprefix("service:")
            port = int(each["environment"]["PORT"])
            assert (port, port) in published(mine[net]), name
    shown = (ROOT / "docker-compose.yml").read_text()
    assert all(url in shown for url in (URLS[profile][0], URLS[profile][-1]))


@contextmanager
def running(profile: str, binary: Path, folder: Path) -> Iterator[dict[int, int]]:
    """Run a profile's commands here; yields where each published port is."""
    mine = services(profile)
    pairs = [pair for each in mine.values() for pair in published(each)]
    moved = dict(zip((outside for outside, _ in pairs), _ports(len(pairs)), strict=True))
    tools = folder / "bin"
    tools.mkdir()
    (tools / "redis-server").symlink_to(binary)
    # The container's redis-cli and sleep are those of this machine.
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    processes = []
    try:
        for name, service in mine.items():
            if name == "sentinel-1":
                # They look at the primary every 10 s: rather when its replicas are there.
                redis_nodes = {each: moved[each] for each in (6380, 6381, 6382)}
                wait_until(partial(settled, profile, redis_nodes), folder)
            home = folder / name
            home.mkdir()
            environment = dict(service.get("environment", {}))
            command = service["command"]
            words = shlex.split(command) if isinstance(command, str) else list(command)
            own = [moved[outside] for outside, inside in published(service) if inside == 6379]
            if own:
                words += ["--port", str(own[0])]
            words = [_moved(word.replace("$$", "$"), moved) for word in words]
            environment = {key: _moved(value, moved) for key, value in environment.items()}
            shell = f"cd {shlex.quote(str(home))} && exec {shlex.join(words)}"
            variables = " ".join(f"{key}={value}" for key, value in environment.items())
            line = ["/usr/bin/env", f"PATH={path}", *variables.split(), "sh", "-c", shell]
            with (home / "log").open("wb") as log:
                processes.append(spawn(line, log))
        yield moved
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def _ports(count: int) -> set[int]:
    """Find ports whose Cluster bus, 10,000 above it, is free and not ephemeral either."""
    found: set[int] = set()
    while len(found) < count:
        port = free_port()
        if port <= 22_000 and _is_free(port + 10_000):
            found.add(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _moved(text: str, moved: dict[int, int]) -> str:
    return re.sub(r"\b\d{4,5}\b", lambda found: str(moved.get(int(found[0]), found[0])), text)


def wait_until(condition: Callable[[], bool], folder: Path) -> None:
    """Poll: servers find each other at their own pace, and tell nobody."""
    give_up_at = time.monotonic() + 25
    while not condition():
        assert time.monotonic() < give_up_at, logs(folder)
        time.sleep(0.05)


def settled(profile: str, moved: dict[int, int]) -> bool:
    """Tell whether every server answers, and has found the others."""
    try:
        return all(_settled(profile, original, port) for original, port in moved.items())
    except redis_sync.RedisError:
        return False


def _settled(profile: str, original: int, port: int) -> bool:
    with redis_sync.Redis(port=port, socket_timeout=1) as client:
        tell: Any = client.execute_command
        if original in SENTINELS:
            seen = tell("SENTINEL MASTER", "mymaster")
            return (seen["num-other-sentinels"], seen["num-slaves"]) == (2, 2)
        # Or a primary waits 5 s for more replicas before it begins to copy.
        client.config_set("repl-diskless-sync-delay", 0)
        replication = client.info("replication")
        links = [replication.get(f"slave{n}") for n in range(replication["connected_slaves"])]
        if any(link is None or link["state"] != "online" for link in links):
            return False
        if profile == "cluster":
            nodes = tell("CLUSTER NODES").values()
            replicas = sum("slave" in each["flags"] for each in nodes)
            return replicas == 3 and (replication["role"] == "slave" or len(links) == 1)
        return profile != "sentinel" or original != 6380 or len(links) == 2


@pytest.mark.parametrize("profile", PROFILES)
def test_the_doctor_finds_a_profile_fit(profile: str, redis_binary: Path, tmp_path: Path) -> None:
    """Started as the file says, each deployment has no danger."""
    if profile == "cluster" and shutil.which("redis-cli") is None:
        pytest.skip("the cluster is made by redis-cli, which is not here")
    with running(profile, redis_binary, tmp_path) as moved:
        wait_until(partial(settled, profile, moved), tmp_path)
        report = examined(*(_moved(url, moved) for url in URLS[profile]))
    assert report["deployment"] == profile
    assert report["verdict"] in ("ok", "note", "warning"), report
    warned = {each["check"] for each in report["findings"] if each["level"] == "warning"}
    # What the server of the run is too old for, and what a single replica does not allow.
    assert warned <= {"version", *(["min-replicas"] if profile == "cluster" else [])}


def logs(folder: Path) -> str:
    """The last words of every service."""
    return "\n".join(f"{log}: {log.read_text()[-500:]}" for log in folder.glob("*/log"))
