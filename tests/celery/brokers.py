"""Brokers of the tests' own, on loopback: redis-server and rabbitmq-server, from Debian."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import kombu.pools
import pytest
import redis

from helpers import descendants, eventually

#: The script itself: what is in PATH wants to be root, or the user of that name.
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
STARTED = 120.0  # seconds: an Erlang machine and a database on a busy processor


def free_port() -> int:
    """One that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_started: list[subprocess.Popen[bytes]] = []


def servers() -> set[int]:
    """All that run, with their processes."""
    roots = {server.pid for server in _started if server.poll() is None}
    return roots.union(*map(descendants, roots))


def _server(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    server: subprocess.Popen[bytes] = subprocess.Popen(command, **options)
    _started.append(server)
    return server


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    assert found is not None, f"missing: Debian package {package}"
    return found


class Redis:
    """A redis-server that keeps what it has on disk, so that it can be restarted."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._program = _program("redis-server", "redis-server")
        self.start()

    def start(self) -> None:
        """And wait until it answers."""
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        with open(self._directory / "log", "ab") as log:
            self._server = _server(
                [*command, "--appendonly", "yes"], cwd=self._directory, stdout=log, stderr=log
            )
        with redis.Redis.from_url(self.url) as client:
            eventually(lambda: self._answers(client))

    def _answers(self, client: redis.Redis) -> bool:
        assert self._server.poll() is None, (self._directory / "log").read_text()
        try:
            return bool(client.ping())
        except redis.ConnectionError:  # also while it reads what is on disk
            return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        """And wait for its end."""
        self._server.send_signal(number)
        self._server.wait(30)

    def listeners(self) -> set[str]:
        """The addresses that it listens on."""
        return _addresses(self._server.pid)

    def flush(self) -> None:
        """Forget all."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


class RabbitMQ:
    """A node with an epmd, a cookie and directories of its own; everything listens on loopback."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._directory = directory
        self._epmd_port = free_port()
        self._distribution = free_port()
        self._node: subprocess.Popen[bytes] | None = None
        assert os.path.exists(RABBITMQ), "missing: Debian package rabbitmq-server"
        # Our own child, since a node that finds none starts one that outlives it.
        with self._log() as log:
            self._epmd = _server(
                [_program("epmd", "erlang-base"), "-port", str(self._epmd_port)],
                env=self._environment(),
                cwd=directory,
                stdout=log,
                stderr=log,
            )
        try:
            eventually(lambda: _listens(self._epmd_port))
            self.start()
        except BaseException:
            self.end()
            raise

    def _log(self) -> contextlib.AbstractContextManager[Any]:
        return open(self._directory / "out", "ab")

    def _environment(self) -> dict[str, str]:
        own = {
            "CONFIG_FILE": "config",
            "ADVANCED_CONFIG_FILE": "advanced.config",
            "CONF_ENV_FILE": "environment",
            "ENABLED_PLUGINS_FILE": "plugins",
            "GENERATED_CONFIG_DIR": "generated",
            "LOG_BASE": "logs",
            "MNESIA_BASE": "mnesia",
            "PID_FILE": "pid",
            "SCHEMA_DIR": "schema",
        }
        return os.environ | {
            "HOME": str(self._directory),  # where the cookie is
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": "tests@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_ALLOW_INPUT": "1",  # the shell becomes the node, so that its pid is ours
            "RABBITMQ_SERVER_START_ARGS": "-noinput -start_epmd false",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1"
            ),
            **{f"RABBITMQ_{name}": str(self._directory / path) for name, path in own.items()},
        }

    def start(self) -> None:
        """And wait until it answers."""
        with self._log() as log:
            self._node = _server(
                [RABBITMQ],
                env=self._environment(),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, within=STARTED)

    def _answers(self) -> bool:
        assert self._node is not None
        assert self._node.poll() is None, (self._directory / "out").read_text()
        if not _listens(self.port):
            return False
        with kombu.Connection(self.url, connect_timeout=5) as connection:
            try:
                connection.connect()
            except OSError:
                return False
            return True

    def listeners(self) -> set[str]:
        """The addresses that node and epmd listen on."""
        assert self._node is not None
        return _addresses(self._node.pid) | _addresses(self._epmd.pid)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """And wait for its end; its epmd stays."""
        assert self._node is not None
        self._node.send_signal(number)
        self._node.wait(60)
        kombu.pools.reset()  # clients of all tests share connections

    def end(self) -> None:
        """The node, and its epmd."""
        try:
            if self._node is not None and self._node.poll() is None:
                self.stop()
        finally:
            self._epmd.terminate()
            self._epmd.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _addresses(pid: int) -> set[str]:
    """Of its sockets that listen, as /proc has them: hexadecimal, of IPv4 in reverse."""
    sockets = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:
                found.add(local.partition(":")[0])
    return found


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """One for all tests, which leave it empty."""
    server = Redis(tmp_path_factory.mktemp("redis"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_url(redis_server: Redis) -> str:
    """Where it is."""
    return redis_server.url


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """One for all tests, which use queues of their own."""
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield server
    finally:
        server.end()
