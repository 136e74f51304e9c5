"""A server that stands ready for the load, and how one talks to it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from . import wire
from .plan import Socket

START_SECONDS = 30
STOP_SECONDS = 3

#: Rooms of each client. The load numbers clients, and knows rooms by these names.
Layout = Sequence[Sequence[str]]

#: Characters of a text, with its mark and stamp.
TEXT_SIZE = 100


def text(size: int = TEXT_SIZE) -> str:
    """A text of so many characters, with a place for the stamp."""
    start = wire.MARK.decode() + wire.STAMP + " "
    return start + "x" * (size - len(start) + len(wire.STAMP) - wire.STAMP_DIGITS)


class NotMeasured(Exception):
    """This server cannot be measured here; the reason goes into the table."""


@dataclass
class Stand:
    """A running server. ``pids`` are those that serve; a master that only watches is apart."""

    port: int
    pids: list[int]
    #: The path and the headers of a client's handshake, by its number.
    handshake: Callable[[int], tuple[str, str]]
    #: What a client sends to say a text in a room: (room, text).
    template: Callable[[str, str], str]
    greeting: str = ""
    #: The people of a server that has accounts, to sign in as.
    names: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    #: Where further workers listen: a client may go to any of them.
    other_ports: list[int] = field(default_factory=list)
    #: The processes at the root of what the server relies on, by name.
    engines: dict[str, int] = field(default_factory=dict)

    @property
    def ports(self) -> list[int]:
        return [self.port, *self.other_ports]

    def socket(self, number: int, kind: str, rooms: Sequence[str]) -> Socket:
        path, headers = self.handshake(number)
        return Socket(path, kind, list(rooms), headers)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(
    command: list[str], port: int, path: str, folder: Path, environ: dict[str, str]
) -> Iterator[list[int]]:
    """Run a server until the end of the block; the ids of the processes that serve.

    ``path`` is one that a WebSocket can be opened at. Raises NotMeasured if it does not start.
    """
    with tempfile.TemporaryFile() as log:
        try:
            running = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
        except OSError as error:
            raise NotMeasured(f"did not start: {error}") from None
        try:
            _wait_until_it_answers(running, port, path)
        except NotMeasured:
            stop(running)
            log.seek(0)
            raise NotMeasured(f"did not start: {last_words(log.read().decode())}") from None
        try:
            yield serving(running.pid)
        finally:
            stop(running)


def _wait_until_it_answers(running: subprocess.Popen[bytes], port: int, path: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and running.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), START_SECONDS) as probe:
                probe.sendall(wire.request(port, path))
                wire.read_answer(probe)
                return
        except OSError:
            time.sleep(0.1)
    raise NotMeasured


def last_words(output: str) -> str:
    """The last line with a word in it: what a failed program says of the reason."""
    lines = [line for line in output.splitlines() if re.search(r"\w{3}", line)]
    return lines[-1].strip()[:200] if lines else "it does not say why"


def serving(pid: int) -> list[int]:
    """The workers of a server that has any, otherwise its one process."""
    workers = psutil.Process(pid).children(recursive=True)
    return [worker.pid for worker in workers] or [pid]


def stop(running: subprocess.Popen[bytes]) -> None:
    """End it and what it has started: politely, and if it is too busy for that, at once."""
    if running.poll() is not None:
        return
    family = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    running.send_signal(signal.SIGTERM)
    try:
        running.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for member in family:
            if member.is_running():
                member.kill()
        running.wait()
