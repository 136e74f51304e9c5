"""How gunicorn's processes share the port: each worker has a listener, and none is ever closed.

The kernel spreads connections evenly over the listeners of a port. gunicorn's own ``reuse_port``
has each worker open and close its listener, and what waits in one that closes is reset. Here the
master opens them all, once: what waits at the listener of a worker that stops is served by the one
that takes its place. If a worker has died, its listener rests until that one has loaded, and new
connections come to the others.

gunicorn's master imports this, so nothing here may need what gevent patches.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
from types import FrameType, SimpleNamespace
from typing import Any

from gunicorn import sock
from gunicorn.workers.ggevent import GeventWorker

#: Seconds that requests have to end in a worker whose successor serves already: there is no hurry.
HANDOVER_SECONDS = 10

_NOBODY, _COMING, _READY = range(3)

_STOPS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's gevent worker, which on SIGHUP serves until the next one is ready.

    gunicorn stops the old workers while the new ones still load: nobody would serve meanwhile.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        #: One byte, shared by all: what is known of the worker that is to take this one's place.
        self.successor = mmap.mmap(-1, 1)
        #: The same: whether it serves, and whether it was told to stop.
        self.serves, self.told = mmap.mmap(-1, 1), mmap.mmap(-1, 1)
        self._predecessors: list[Worker] = []
        self._leaving = False
        self._names: dict[Any, SimpleNamespace] = {}

    def follow(self, predecessors: list[Worker]) -> None:
        """Take the place of these, when ready. In the master."""
        self._predecessors = predecessors
        for old in predecessors:
            old.successor[0] = _COMING

    def relieve(self) -> None:
        """Be ready: whom this worker follows may go."""
        self.serves[0] = True
        for old in self._predecessors:
            old.successor[0] = _READY

    def leave_when_relieved(self) -> None:
        """Stop, if that is wanted and the next worker is ready."""
        if self._leaving and self.successor[0] != _COMING:
            if self.successor[0] == _READY:
                self.cfg.set("graceful_timeout", HANDOVER_SECONDS)
            self.alive = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: stop; or only when relieved, unless it comes again."""
        self.told[0] = True
        if not self.booted:
            os._exit(0)  # it has served nobody yet, and to load may take longer than to stop
        if self._leaving or self.successor[0] == _NOBODY:
            super().handle_exit(sig, frame)
        self._leaving = True

    def run(self) -> None:
        for listener in self.sockets:
            listener.listen(self.cfg.backlog)  # again, if it rests
            address = listener.getsockname()
            self._names[listener] = SimpleNamespace(getsockname=lambda name=address: name)
        super().run()

    def handle(self, listener: Any, client: Any, address: Any) -> None:
        """Serve a connection, also one that was accepted just before the listener was closed.

        All that gunicorn wants of the listener is its name, which a closed one does not say.
        """
        super().handle(self._names[listener], client, address)


def prepare(server: Any) -> None:
    """Set up gunicorn's master, before it listens."""
    _open_listeners(server)
    queue_signal = server.signal

    def notice(sig: int, frame: FrameType | None) -> None:
        if sig in _STOPS:
            # In the middle of a reload gunicorn first waits for the old workers to be gone.
            for worker in server.WORKERS.values():
                worker.successor[0] = _NOBODY
        queue_signal(sig, frame)

    server.signal = notice


def _open_listeners(server: Any) -> None:
    """Open as many listeners as there will be workers, if the master has not been given some.

    One comes first that shares with nobody: if another server has the port, gunicorn says so, tries
    again for some seconds, and ends. Those that share would not notice.
    """
    given = "GUNICORN_FD" in os.environ or "LISTEN_FDS" in os.environ
    by_address = all(isinstance(address, tuple) for address in server.cfg.address)
    if given or server.cfg.workers == 1 or not by_address:
        return
    sock.close_sockets(sock.create_sockets(server.cfg, server.log))
    server.cfg.set("reuse_port", True)
    for _ in range(server.cfg.workers):
        server.LISTENERS = server.LISTENERS + sock.create_sockets(server.cfg, server.log)
    server.cfg.set("reuse_port", False)  # or each worker would open its own
    server.handle_ttin = server.handle_ttou = lambda: server.log.warning(
        "the number of workers stays: set WEB_CONCURRENCY, and restart"
    )


def _shares(server: Any) -> list[list[Any]]:
    """The listeners of each worker; none if all have the same."""
    each = len(server.cfg.address)
    if server.cfg.workers == 1 or len(server.LISTENERS) != each * server.cfg.workers:
        return []
    return [server.LISTENERS[i : i + each] for i in range(0, len(server.LISTENERS), each)]


def share_out(server: Any, worker: Worker) -> None:
    """Give a worker that is about to be forked the listeners that the fewest have."""
    workers = server.WORKERS.values()
    if shares := _shares(server):
        worker.sockets = min(shares, key=[other.sockets for other in workers].count)
    worker.follow([other for other in workers if other.sockets == worker.sockets])


def rest(server: Any, worker: Worker) -> None:
    """Let nobody new come to the listeners of a worker that has died, while others serve.

    Shut down, a listener leaves those among which the kernel spreads connections, and keeps its
    address: it may listen again. What waits there is reset; so not if the worker was told to stop,
    as it has let others wait meanwhile.
    """
    others = server.WORKERS.values()
    alone = worker.sockets in _shares(server) and worker.sockets not in [o.sockets for o in others]
    if alone and worker.serves[0] and not worker.told[0] and any(o.serves[0] for o in others):
        for listener in worker.sockets:
            listener.shutdown(socket.SHUT_RD)


def close_others(server: Any, worker: Worker) -> None:
    """In a new worker, let go of the listeners of others: in the end all are to be closed."""
    for listener in server.LISTENERS:
        if listener not in worker.sockets:
            listener.close()
