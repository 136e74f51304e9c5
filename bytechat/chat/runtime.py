"""What a worker keeps while it runs: the hub, the journal, and the threads that serve them."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from datetime import timedelta
from secrets import token_hex
from threading import Lock, Thread
from typing import cast

from flask import Flask, current_app

from ..auth import tokens
from ..config import Settings
from ..errors import from_database
from ..models import now
from ..realtime import pulse
from ..realtime.closing import Code
from ..realtime.hub import Hub
from ..storage import transaction
from . import frames, messages, rooms
from .journal import Journal

log = logging.getLogger(__name__)

#: Seconds between two looks at the database for what other workers have done.
SWEEP_SECONDS = 1.0

#: How far back a sweep looks for revoked tokens: more than the clocks of two machines are apart.
REVOKED_WITHIN = timedelta(seconds=60)

#: Sweeps between two purges of what has expired: about an hour.
PURGE_EVERY = 3600

#: Changes of a room that are read from the database at once.
PAGE = 500

#: Seconds that a drain waits for messages that were taken in already.
FLUSH_SECONDS = 2.0

#: Seconds after which a client may come back from a restart: spread, so that not all come at once.
RETRY_AFTER = (0.5, 3.0)


class Runtime:
    """One for each application, so one for each worker; ``worker`` is its name in ``hello``."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self.worker = token_hex(4)
        self.draining = False
        self.hub = Hub(self._read_since)
        self.journal = Journal(app, self._publish)
        self._app = app
        self._settings = settings
        self._started = False
        self._lock = Lock()

    def start(self) -> None:
        """Start the threads, once; not before there is a socket, as ``flask db`` needs none."""
        with self._lock:
            if self._started:
                return
            self._started = True
        loops: dict[str, Callable[[], None]] = {
            "hub": self.hub.run,
            "journal": self.journal.run,
            "pulse": lambda: pulse.run(self.hub, self._settings.ping_every),
            "sweep": self._sweep_for_ever,
        }
        for name, loop in loops.items():
            Thread(target=loop, name=name, daemon=True).start()

    @property
    def full(self) -> bool:
        """Whether another socket would take what is kept for plain HTTP."""
        return len(self.hub) >= self._settings.max_sockets

    def drain(self) -> None:
        """Say goodbye: no new sockets, what was taken in is written, then all are closed (1012)."""
        self.draining = True
        self.journal.flush(FLUSH_SECONDS)
        for connection in self.hub.connections():
            retry_after = round(random.uniform(*RETRY_AFTER), 3)  # noqa: S311 not a secret
            connection.push(frames.encode(frames.Goodbye(retry_after)))
            connection.close(Code.RESTART, "the server restarts: reconnect and resume")

    def close_tokens(self, revoked: set[str]) -> None:
        """Close the sockets of these tokens (their ``jti``)."""
        for connection in self.hub.connections():
            if connection.token in revoked:
                connection.close(Code.TOKEN_ENDED, "signed out")

    def _publish(self, new: list[frames.MessageFrame]) -> None:
        self.hub.publish([(message.room, message.rev, frames.encode(message)) for message in new])

    def _read_since(self, room: int, rev: int) -> list[tuple[int, bytes]]:
        with self._app.app_context(), transaction() as db:
            changed = messages.changed_since(db, room, rev, PAGE, frames.MessageFrame)
        return [(message.rev, frames.encode(message)) for message in changed]

    def _sweep_for_ever(self) -> None:
        sweeps = 0
        while True:
            time.sleep(SWEEP_SECONDS)
            try:
                with self._app.app_context():
                    self.sweep()
                    if sweeps % PURGE_EVERY == 0:
                        tokens.purge_expired()
            except Exception as error:
                # The next sweep is a second away.
                if from_database(error):
                    log.warning("a sweep failed", extra={"error": type(error).__name__})
                else:
                    log.exception("a sweep failed")
            sweeps += 1

    def sweep(self) -> None:
        """Learn from the database what other workers wrote and which tokens they revoked.

        Correctness rests on this alone: whatever tells workers sooner may lose what it carries.
        """
        if not len(self.hub):
            return
        with transaction() as db:
            heads = rooms.heads(db, self.hub.rooms())
        self.hub.compare(heads)
        if revoked := tokens.revoked_since(now() - REVOKED_WITHIN):
            self.close_tokens(revoked)


def init_app(app: Flask, settings: Settings) -> None:
    """Make the application's runtime, which closes the sockets of a token that is revoked here."""
    runtime = Runtime(app, settings)
    app.extensions["bytechat.runtime"] = runtime

    def close_sockets(_app: Flask, jti: str) -> None:
        runtime.close_tokens({jti})

    tokens.token_revoked.connect(close_sockets, app, weak=False)


def current_runtime() -> Runtime:
    """The runtime of the application that is handling this request."""
    return cast("Runtime", current_app.extensions["bytechat.runtime"])
