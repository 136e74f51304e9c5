"""The load: a process of its own, one epoll loop; takes a Spec on stdin, and prints what it saw.

One JSON line when a phase begins, and one with its results when it is over.
"""

from __future__ import annotations

import gc
import json
import resource
import select
import socket
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import psutil

from . import wire
from .clients import KINDS, Client, Sampled
from .phase import Run
from .plan import Phase, Spec

#: Handshakes that are under way at the same time.
CONNECT_AT_ONCE = 50

#: Connections from one address; the ports of an address are about 28,000.
PER_ADDRESS = 20_000

#: Seconds without a byte after which everybody has been greeted: longer than it takes until the
#: members of a room have been told of those who came last, at another worker too.
QUIET = 1.5
SETTLE_MAX = 15.0

#: Of a stalled reader: it should not be the kernel that keeps what it does not read.
STALLED_BUFFER = 4096
WOKEN_BUFFER = 1 << 20


class Load:
    """All the sockets, and the loop that reads and writes them."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.clients: list[Client] = []
        self._epoll = select.epoll()
        self._by_fd: dict[int, Client] = {}
        self._server = [psutil.Process(pid) for pid in spec.pids]
        self._engines = {name: psutil.Process(pid) for name, pid in spec.engines.items()}
        self._templates = [wire.Template(sender.template) for sender in spec.senders]
        self._clock = 0

    def connect(self) -> dict[str, Any]:
        """Open all sockets; what that cost the server."""
        cpu, memory, began = self.cpu(), self._memory(), time.monotonic()
        engines = self.engines_cpu()
        waiting: list[tuple[socket.socket, int]] = []
        for number in range(len(self.spec.clients)):
            waiting.append((self._dial(number), number))
            if len(waiting) == CONNECT_AT_ONCE:
                self._greet(waiting)
        self._greet(waiting)
        seconds = time.monotonic() - began
        self._settle()
        count = len(self.clients)
        return {
            "phase": "connect",
            "clients": count,
            "seconds": seconds,
            "cpu_ms_each": (self.cpu() - cpu) * 1e3 / count,
            "cpu_ms_by_engine": {
                name: (took - engines[name]) * 1e3 / count
                for name, took in self.engines_cpu().items()
            },
            "kib_each": (self._memory() - memory) / 1024 / count,
        }

    def _dial(self, number: int) -> socket.socket:
        client = self.spec.clients[number]
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if client.kind == "stalled":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER)
        if number >= PER_ADDRESS:
            sock.bind((f"127.0.0.{2 + number // PER_ADDRESS}", 0))
        port = self.spec.ports[number % len(self.spec.ports)]
        sock.connect(("127.0.0.1", port))
        sock.sendall(wire.request(port, client.path, client.headers))
        return sock

    def _greet(self, waiting: list[tuple[socket.socket, int]]) -> None:
        for sock, number in waiting:
            wanted = self.spec.clients[number]
            rest = wire.read_answer(sock)
            if self.spec.greeting:
                sock.sendall(wire.masked(self.spec.greeting.encode()))
            sock.setblocking(False)
            client: Client = KINDS[wanted.kind](sock, wanted.rooms)
            if isinstance(client, Sampled):
                client.take(rest)
            self.clients.append(client)
            self._by_fd[sock.fileno()] = client
            self._epoll.register(sock, select.EPOLLIN)
        waiting.clear()

    def _settle(self) -> None:
        """Read until nothing comes any more."""
        deadline = time.monotonic() + SETTLE_MAX
        quiet_since = time.monotonic()
        while time.monotonic() < min(quiet_since + QUIET, deadline):
            if self.read(0.05):
                quiet_since = time.monotonic()

    def read(self, seconds: float) -> int:
        """Read what there is, waiting at most this long for it; how many sockets had something."""
        ready = self._epoll.poll(seconds, 1024)
        for fd, _ in ready:
            client = self._by_fd[fd]
            try:
                client.read()
            except BlockingIOError:
                continue
            except OSError:
                client.closed = True
            if client.closed:
                self._epoll.unregister(fd)
                del self._by_fd[fd]
        return len(ready)

    def run(self, phase: Phase) -> dict[str, Any]:
        """Send as the phase says, wait for what is owed, and report."""
        stalled = self._stall() if phase.stall else []
        run = Run(self, phase, stalled)
        gc.collect()
        gc.disable()  # a pause of the load would look like one of the server
        try:
            run.go()
        finally:
            gc.enable()
        result = run.result()
        if stalled:
            result["stalled_closes"] = self._wake(stalled)
        return result

    def _stall(self) -> list[Sampled]:
        stalled = [
            client
            for client, wanted in zip(self.clients, self.spec.clients, strict=True)
            if wanted.kind == "stalled" and isinstance(client, Sampled)
        ]
        for client in stalled:
            self._epoll.unregister(client.sock)
        return stalled

    def _wake(self, stalled: list[Sampled]) -> dict[int, int]:
        """Let the stalled ones read on; the close codes that they find, each with its count."""
        for client in stalled:
            # Nor should it take long to read what the kernel has kept after all.
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WOKEN_BUFFER)
            self._epoll.register(client.sock, select.EPOLLIN)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not all(client.close_code for client in stalled):
            self.read(0.05)
        return dict(Counter(client.close_code for client in stalled))

    def stamp(self, sender: int) -> int:
        """A new stamp; the clock in it never stands still."""
        self._clock = max(self._clock + 1, time.monotonic_ns())
        return self._clock * 1000 + sender

    def frame(self, sender: int) -> bytes:
        """The next message of this sender."""
        return self._templates[sender].frame(self.stamp(sender))

    def cpu(self) -> float:
        return sum(self.cpu_each())

    def cpu_each(self) -> list[float]:
        """Seconds of CPU that each of the servers' processes has used."""
        return [sum(process.cpu_times()[:2]) for process in self._server]

    def engines_cpu(self) -> dict[str, float]:
        """The same of the engines, each with all its processes."""
        return {name: family_cpu(root) for name, root in self._engines.items()}

    def _memory(self) -> int:
        return sum(process.memory_info().rss for process in self._server)


def family_cpu(root: psutil.Process) -> float:
    """Seconds of CPU of a process, of its children that live, and of those that have ended."""
    seconds = sum(root.cpu_times()[:4])
    for child in root.children():
        with suppress(psutil.NoSuchProcess):  # its seconds are the root's in a moment
            seconds += sum(child.cpu_times()[:2])
    return seconds


def main() -> None:
    """Read the Spec, connect, run the phases."""
    raise_the_limit_of_files()
    spec = Spec.from_json(sys.stdin.read())
    load = Load(spec)
    say(load.connect())
    for phase in spec.phases:
        say({"begins": phase.name})
        say(load.run(phase))


def raise_the_limit_of_files() -> None:
    """As far as the system lets us: a descriptor for each socket."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def say(line: dict[str, Any]) -> None:
    """One line for whoever has started this process."""
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
