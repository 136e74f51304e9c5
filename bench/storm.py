"""The load of a reconnect storm: everybody talks on while workers are killed, and comes back.

A process of its own, as ``bench/load.py`` is: takes a Spec on stdin, prints one JSON line for each
of its phases, whose name says whom to kill: ``one`` worker, or ``all``.
"""

from __future__ import annotations

import heapq
import random
import select
import signal
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil

from . import wire
from .device import Device
from .load import (
    CONNECT_AT_ONCE,
    QUIET,
    SETTLE_MAX,
    family_cpu,
    raise_the_limit_of_files,
    say,
)
from .plan import Phase, Spec

#: Seconds of talk before the kill, and for which the last word may be on its way.
BEFORE = 2.0
LAST_WORDS = 10.0

#: Seconds within which all sockets of a killed process are closed, however busy the machine is.
KILL_SECONDS = 10.0

#: Seconds between two messages.
PAUSE = 0.2


class Storm:
    """All the devices, the loop that serves them, and the hand that kills."""

    def __init__(self, spec: Spec) -> None:
        self._ports = spec.ports
        # Each worker has one, which starts another in its place.
        self._masters = [psutil.Process(psutil.Process(pid).ppid()) for pid in spec.pids]
        self._engines = [psutil.Process(pid) for pid in spec.engines.values()]
        self._epoll = select.epoll()
        self._by_fd: dict[int, Device] = {}
        self._dials: list[tuple[float, int]] = []  # when, and whose
        self._template = wire.Template(spec.senders[0].template)
        self._octets = 0
        self._said = 0
        self._lost: list[Device] = []
        self.devices = [
            Device(number, lambda port, c=client: wire.request(port, c.path, c.headers))  # type: ignore[misc]
            for number, client in enumerate(spec.clients)
        ]
        self._speakers = [self.devices[sender.client] for sender in spec.senders]

    def connect(self) -> None:
        """Bring everybody in, in turn over the ports; the storm comes later."""
        for device in self.devices:
            device.deaf = True
        for start in range(0, len(self.devices), CONNECT_AT_ONCE):
            batch = self.devices[start : start + CONNECT_AT_ONCE]
            for device in batch:
                self._dial(device, self._ports[device.number % len(self._ports)])
            while not all(device.talking for device in batch):
                self.turn()
        quiet_since = began = time.monotonic()
        while time.monotonic() < min(quiet_since + QUIET, began + SETTLE_MAX):
            if self.turn():
                quiet_since = time.monotonic()
        for device in self.devices:
            device.listen()

    def turn(self) -> int:
        """Serve who is ready, dial whose time has come; how many were ready."""
        ready = self._epoll.poll(0.01, 1024)
        moment = time.monotonic()
        for fd, events in ready:
            device = self._by_fd[fd]
            try:
                if not device.asked:
                    self._ask(device, fd)
                elif events:
                    self._octets += device.read(moment)
            except BlockingIOError:
                continue
            except OSError:
                self._lose(device, fd)
        while self._dials and self._dials[0][0] <= moment:
            device = self.devices[heapq.heappop(self._dials)[1]]
            self._dial(device, random.choice(self._ports))  # noqa: S311 a balancer's
        return len(ready)

    def _dial(self, device: Device, port: int) -> None:
        try:
            sock = device.dial(port)
        except OSError:
            device.hang_up()
            self._later(device)
            return
        self._by_fd[sock.fileno()] = device
        self._epoll.register(sock, select.EPOLLOUT)

    def _ask(self, device: Device, fd: int) -> None:
        """The connection stands, or has failed."""
        assert device.sock
        port = device.sock.getpeername()[1]  # fails if it does not
        device.send(device.request(port))
        device.asked = True
        self._epoll.modify(fd, select.EPOLLIN)

    def _lose(self, device: Device, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._by_fd[fd]
        if device.talking:
            self._lost.append(device)
            device.wait_again()
        device.hang_up()
        self._later(device)

    def _later(self, device: Device) -> None:
        heapq.heappush(self._dials, (time.monotonic() + device.backoff.next(), device.number))

    def run(self, phase: Phase) -> dict[str, Any]:
        """Talk, kill, talk on until all are back and have everything; what was seen."""
        self._talk(BEFORE)
        head = self._head()
        victims = self._masters[:1] if phase.name == "one" else self._masters
        killed_at = time.monotonic()
        cpu, engines = self._cpu(self._masters), self._cpu(self._engines)
        self._octets = 0
        self._kill(victims)
        self._talk(phase.patience, until=lambda: all(device.complete_at for device in self._lost))
        cpu, engines = self._cpu(self._masters) - cpu, self._cpu(self._engines) - engines
        octets, said = self._octets, self._head() - head
        self._talk(LAST_WORDS, until=self._all_have_all, silent=True)
        newest = self._head()
        lost = list({device.number: device for device in self._lost}.values())
        done = sorted(device.complete_at - killed_at for device in lost if device.complete_at)
        back = [device.back_at - killed_at for device in lost if device.complete_at]
        whole = len(done) == len(lost)
        return {
            "phase": phase.name,
            "clients": len(self.devices),
            "lost": len(lost),
            "complete": whole,
            "said": said,
            "back_s": max(back, default=0.0) if whole else None,
            "half_s": statistics.median(done) if done else None,
            "complete_s": max(done, default=0.0) if whole else None,
            "attempts": statistics.mean([device.attempts for device in lost] or [0]),
            "cpu_s": cpu,
            "engines_s": engines,
            "refused": sum(device.refused for device in lost),
            "missing": sum(device.have != newest for device in self.devices),
            "megabytes": octets / 1e6,
        }

    def _kill(self, victims: list[psutil.Process]) -> None:
        """Kill their workers, which their masters replace, and see who loses the connection."""
        self._lost = []
        ports = self._ports[: len(victims)]
        theirs = sum(device.talking and device.port in ports for device in self.devices)
        for master in victims:
            for worker in master.children():
                worker.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + KILL_SECONDS
        while len(self._lost) < theirs and time.monotonic() < deadline:
            self.turn()

    def _talk(
        self, seconds: float, until: Callable[[], bool] = lambda: False, *, silent: bool = False
    ) -> None:
        began = looked = time.monotonic()
        due = began
        while (moment := time.monotonic()) < began + seconds:
            self.turn()
            if moment >= due and not silent:
                due = moment + PAUSE
                self._speak()
            if moment > looked + 0.05:
                looked = moment
                for device in self.devices:
                    device.ask_again(moment)
                if until():
                    return

    def _speak(self) -> None:
        """The next speaker who is there says something."""
        there = [device for device in self._speakers if device.talking]
        if there:
            self._said += 1
            stamp = time.monotonic_ns() * 1000
            there[self._said % len(there)].send(self._template.frame(stamp))

    def _cpu(self, roots: list[psutil.Process]) -> float:
        return sum(family_cpu(root) for root in roots)

    def _head(self) -> int:
        return max(device.have or 0 for device in self.devices)

    def _all_have_all(self) -> bool:
        head = self._head()
        return all(device.have == head for device in self.devices)


def main() -> None:
    """Read the Spec, connect, run the phases."""
    raise_the_limit_of_files()
    spec = Spec.from_json(sys.stdin.read())
    storm = Storm(spec)
    storm.connect()
    for phase in spec.phases:
        say(storm.run(phase))


if __name__ == "__main__":
    main()
