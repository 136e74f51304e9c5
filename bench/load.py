"""The load: a process of its own with one epoll loop. Takes a Spec on stdin, says what it saw on stdout.

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
from typing import Any

import psutil

from . import wire
from .clients import KINDS, Client, Counted, Marked, Sampled
from .plan import Phase, Spec

#: Handshakes that are under way at the same time.
CONNECT_AT_ONCE = 50

#: Connections from one address; the ports of an address are about 28,000.
PER_ADDRESS = 20_000

#: Seconds without a byte after which everybody has been greeted.
QUIET = 0.5
SETTLE_MAX = 15.0

#: Of a stalled reader: it should not be the kernel that keeps what it does not read.
STALLED_BUFFER = 4096

#: Messages that one socket sends at once at open throttle.
BURST = 64


class Load:
    """All the sockets, and the loop that reads and writes them."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.clients: list[Client] = []
        self._epoll = select.epoll()
        self._by_fd: dict[int, Client] = {}
        self._server = [psutil.Process(pid) for pid in spec.pids]
        self._templates = [wire.Template(sender.template) for sender in spec.senders]
        self._clock = 0

    def connect(self) -> dict[str, Any]:
        """Open all sockets; what that cost the server."""
        cpu, memory, began = self._cpu(), self._memory(), time.monotonic()
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
            "cpu_ms_each": (self._cpu() - cpu) * 1e3 / count,
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
        sock.connect(("127.0.0.1", self.spec.port))
        sock.sendall(wire.request(self.spec.port, client.path, client.headers))
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
            if self._read(0.05):
                quiet_since = time.monotonic()

    def _read(self, seconds: float) -> int:
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
            self._epoll.register(client.sock, select.EPOLLIN)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not all(client.close_code for client in stalled):
            self._read(0.05)
        return dict(Counter(client.close_code for client in stalled))

    def stamp(self, sender: int) -> int:
        """A new stamp; the clock in it never stands still."""
        self._clock = max(self._clock + 1, time.monotonic_ns())
        return self._clock * 1000 + sender

    def frame(self, sender: int) -> bytes:
        """The next message of this sender."""
        return self._templates[sender].frame(self.stamp(sender))

    def _cpu(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._server)

    def _memory(self) -> int:
        return sum(process.memory_info().rss for process in self._server)


class Run:
    """One phase, while it runs."""

    def __init__(self, load: Load, phase: Phase, stalled: list[Sampled]) -> None:
        self._load = load
        self._phase = phase
        present = [client for client in load.clients if client not in stalled and not client.closed]
        self._present = present
        for client in load.clients:
            client.reset()
        self._samples = [client for client in present if isinstance(client, Sampled)]
        self._counted = [client for client in present if isinstance(client, Counted)]
        self._marked = [client for client in present if isinstance(client, Marked)]
        self._speakers: list[Marked] = []
        for sender in load.spec.senders:
            speaker = load.clients[sender.client]
            assert isinstance(speaker, Marked)
            self._speakers.append(speaker)
        self._sent: Counter[str] = Counter()  # messages by room
        self._total = 0
        self._turn = 0
        self._late = 0.0

    def go(self) -> None:
        """Send for so many seconds; then wait until all is there, or for ``patience``."""
        load, phase = self._load, self._phase
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._own = -usage.ru_utime - usage.ru_stime
        self._server_cpu = -load._cpu()
        self._began = now = time.monotonic()
        end = now + phase.seconds
        send = self._keep_window if phase.window else self._keep_rate
        while (now := time.monotonic()) < end:
            send(now - self._began)
            load._read(0.001)
        self._in_time = self._deliveries()
        self._acks_in_time = self._acks()
        self._last = now
        asked = 0.0
        while now < end + phase.patience:
            if load._read(0.005):
                self._last = time.monotonic()
            now = time.monotonic()
            if now - asked > 0.02:
                asked = now
                for speaker in self._speakers:
                    speaker.flush()
                if self._complete():
                    break
        self._server_cpu += load._cpu()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._own += usage.ru_utime + usage.ru_stime
        self._ended = max(self._last, end)

    def _keep_rate(self, elapsed: float) -> None:
        due = int(elapsed * self._phase.rate) + 1
        while self._total < due and self._say(1):
            pass

    def _keep_window(self, _elapsed: float) -> None:
        """At open throttle: at most ``window`` messages are under way."""
        seen = min(client.marks for client in self._samples)
        room = self._phase.window - (self._total - seen)
        while room > 0 and self._say(min(BURST, room)):
            room -= BURST

    def _say(self, count: int) -> bool:
        """Let the next sender say so many messages; False if its socket is full."""
        sender = self._turn % len(self._speakers)
        frames = b"".join([self._load.frame(sender) for _ in range(count)])
        if not self._speakers[sender].say(frames):
            return False
        self._turn += 1
        self._total += count
        self._sent[self._load.spec.senders[sender].room] += count
        return True

    def _owed(self, client: Client) -> int:
        return sum(self._sent[room] for room in client.rooms)

    def _complete(self) -> bool:
        """Whether everybody has been given every message: byte for byte what the samples were."""
        if any(client.closed or client.marks != self._owed(client) for client in self._marked):
            return False
        # A sender's stream has its acks too; a sample that does not send has the room's alone.
        silent = self._silent_samples()
        return not self._counted or (
            bool(silent)
            and {client.octets for client in [*self._counted, *silent]} == {silent[0].octets}
        )

    def _silent_samples(self) -> list[Sampled]:
        return [client for client in self._samples if client not in self._speakers]

    def _deliveries(self) -> float:
        """Messages that have arrived, those at the counted by their bytes."""
        total = float(sum(client.marks for client in self._marked))
        if self._counted and (silent := self._silent_samples()) and silent[0].octets:
            size = silent[0].octets / max(1, silent[0].marks)
            total += sum(client.octets for client in self._counted) / size
        return total

    def _acks(self) -> int:
        return sum(client.acks for client in self._marked)

    def result(self) -> dict[str, Any]:
        latencies = [ms for client in self._samples for ms in client.latencies]
        acks = [ms for client in self._samples for ms in client.ack_latencies]
        owed = sum(self._owed(client) for client in self._present)
        deliveries = self._deliveries()
        complete = self._complete()
        seconds = self._ended - self._began
        return {
            "phase": self._phase.name,
            "clients": len(self._present),
            "sent": self._total,
            "owed": owed,
            "deliveries": owed if complete else round(deliveries),
            "complete": complete,
            "seconds": seconds,
            # While it was sent, for what came after has no load beside it.
            "deliveries_per_s": self._in_time / self._phase.seconds,
            "sent_per_s": self._total / self._phase.seconds,
            "p50_ms": quantile(latencies, 0.5),
            "p99_ms": quantile(latencies, 0.99),
            "max_ms": quantile(latencies, 1),
            "acks": self._acks(),
            "acks_per_s": self._acks_in_time / self._phase.seconds,
            "ack_p50_ms": quantile(acks, 0.5),
            "ack_p99_ms": quantile(acks, 0.99),
            "disorder": sum(client.disorder for client in self._samples),
            "gaps": sum(client.gaps for client in self._samples),
            "closed": sum(client.closed for client in self._present),
            "cpu_us_each": self._server_cpu * 1e6 / deliveries if deliveries else None,
            "cpu_share": self._server_cpu / seconds,
            "load_share": self._own / seconds,
        }


def quantile(values: list[float], share: float) -> float | None:
    """The value below which this share of them is; None of none."""
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    """Read the Spec, connect, run the phases."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    spec = Spec.from_json(sys.stdin.read())
    load = Load(spec)
    say(load.connect())
    for phase in spec.phases:
        say({"begins": phase.name})
        say(load.run(phase))


def say(line: dict[str, Any]) -> None:
    """One line for whoever has started this process."""
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
