"""A wire between two programs that can be cut after any byte, or go silent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

CHUNK = 65_536

#: A port of this machine, or the path of a Unix socket.
Target = int | str


class Proxy:
    """Passes on what comes to ``port``, both ways.

    ``life`` says, once for each direction of a new connection, after how many bytes it is cut, and
    the other one with it; None is never.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.life: Callable[[], int | None] = lambda: None
        #: Bytes that are passed on at once, and seconds after them.
        self.chunk, self.pause = CHUNK, 0.0
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: How many connections were cut because their life was over.
        self.cuts = 0

    def hold(self) -> None:
        """Accept, and pass nothing on, until ``release``; what came meanwhile is passed on then."""
        self._flowing.clear()

    def release(self) -> None:
        self._flowing.set()

    def cut(self) -> None:
        """Cut all that is open now."""
        with self._lock:
            for side in self._open:
                _cut(side)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()  # after it there are no new ones
        self.cut()
        self.release()
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="proxy")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = _connect(self._target)
            except OSError:
                near.close()  # as who asks would see it without us: nobody is there
                continue
            with self._lock:
                self._open |= {near, far}
            ends = threading.Barrier(2)
            self._start(self._pass_on, near, far, ends)
            self._start(self._pass_on, far, near, ends)

    def _pass_on(self, source: socket.socket, sink: socket.socket, ends: threading.Barrier) -> None:
        left = self.life()
        with suppress(OSError):
            while data := source.recv(self.chunk):
                self._flowing.wait()
                sink.sendall(data[:left])
                time.sleep(self.pause)
                if left is not None:
                    left -= len(data)
                    if left <= 0:
                        self.cuts += 1
                        break
        _cut(source)
        _cut(sink)
        ends.wait()  # the other direction uses the same two
        with self._lock:
            self._open.discard(source)
        source.close()


def _connect(target: Target) -> socket.socket:
    far = socket.socket(socket.AF_INET if isinstance(target, int) else socket.AF_UNIX)
    try:
        far.connect(("127.0.0.1", target) if isinstance(target, int) else target)
    except OSError:
        far.close()
        raise
    return far


def _cut(side: socket.socket) -> None:
    with suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
