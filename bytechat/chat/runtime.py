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

from ..auth import accounts, tokens
from ..config import Settings
from ..errors import Unavailable, from_database
from ..models import now
from ..realtime import pulse
from ..realtime.closing import Code
from ..realtime.connection import Connection
from ..realtime.hub import Hub
from ..storage import reading
from . import frames, messages, rooms
from .journal import Journal

log = logging.getLogger(__name__)

#: Seconds between two looks at the database for what other workers have done.
SWEEP_SECONDS = 1.0

#: More than the clocks of two machines are apart.
CLOCK_SKEW = timedelta(seconds=60)

#: Seconds between two purges, and how long after their end rows are purged.
PURGE_SECONDS = 3600.0
PURGE_LATE = timedelta(days=1)

#: Seconds that a drain waits for messages that were taken in already.
FLUSH_SECONDS = 2.0

#: Seconds after which a client may come back from a restart: spread, so that not all come at once.
RETRY_AFTER = (0.5, 3.0)


class Runtime:
    """One for each application, so one for each worker; ``worker`` is its name in ``hello``.

    What it runs has no request: it pushes the application's context for as long as it needs it.
    """

    def __init__(self, app: Flask, settings: Settings) -> None:
        self.worker = token_hex(4)
        self.hub = Hub(self._read_since)
        self.journal = Journal(app, self._publish)
        self.crowds = rooms.Crowds()
        self.app = app
        self.settings = settings
        self._lock = Lock()
        self._started = False
        self._draining = False
        self._seats = 0
        self._revoked_since = now() - CLOCK_SKEW
        self._purge_at = 0.0

    def start(self) -> None:
        """Start the threads, once. Not made with the application, as ``flask db`` needs none."""
        with self._lock:
            if self._started:
                return
            self._started = True
        steps: dict[str, Callable[[], None]] = {
            "hub": self.hub.step,
            "journal": self.journal.step,
            "pulse": lambda: pulse.step(self.hub, self.settings.ping_every),
            "sweep": self._sweep_step,
        }
        for name, step in steps.items():
            Thread(target=_for_ever, args=(name, step), name=name, daemon=True).start()

    def take_seat(self) -> None:
        """Make room for a socket. Raises Unavailable when there is none, or when it would not last.

        What is kept for plain HTTP is not taken by sockets whose handshakes are under way together.
        """
        with self._lock:
            if self._draining:
                raise Unavailable("This worker is going away; connect again.", retry_after=1)
            if self._seats >= self.settings.max_sockets:
                raise Unavailable("This worker has all the sockets it can hold.", retry_after=5)
            self._seats += 1

    def leave_seat(self) -> None:
        """Give the room back, when the socket is closed or its handshake has failed."""
        with self._lock:
            self._seats -= 1

    def drain(self) -> None:
        """Say goodbye: no new sockets, what was taken in is written, then all are closed (1012)."""
        with self._lock:
            again, self._draining = self._draining, True
        if not again:  # a stop is to be soon over
            self.journal.flush(FLUSH_SECONDS)
        for connection in self.hub.connections():
            self._say_goodbye(connection)

    def wait_for_all(self, seconds: float) -> None:
        """Wait until all sockets are closed, at most this long."""
        deadline = time.monotonic() + seconds
        while len(self.hub) and time.monotonic() < deadline:
            time.sleep(0.02)

    def welcome(self, connection: Connection, hello: frames.Hello) -> None:
        """Begin to talk; a socket that has missed the drain while it was opened is told here."""
        connection.open(frames.encode(hello))
        if self._draining:
            self._say_goodbye(connection)

    def close_tokens(self, jtis: set[str], *, disabled: bool) -> None:
        """Close the sockets of these tokens; ``disabled`` is whether their accounts are."""
        if not jtis:
            return
        code = Code.ACCOUNT_DISABLED if disabled else Code.TOKEN_ENDED
        reason = "the account is disabled" if disabled else "signed out"
        for connection in self.hub.connections():
            if connection.token in jtis:
                connection.close(code, reason)

    def sweep(self) -> None:
        """Learn from the database what other workers wrote and which tokens they revoked.

        Correctness rests on this alone: whatever tells workers sooner may lose what it carries.
        Needs an application context.
        """
        began = now()
        if len(self.hub):
            with reading() as db:
                heads = rooms.heads(db, self.hub.rooms())
            self.hub.compare(heads)
            for disabled, jtis in tokens.revoked_since(self._revoked_since).items():
                self.close_tokens(jtis, disabled=disabled)
        # Not before all of it has succeeded: an outage must not hide what was revoked during it.
        self._revoked_since = began - CLOCK_SKEW

    def _sweep_step(self) -> None:
        time.sleep(SWEEP_SECONDS)
        try:
            with self.app.app_context():
                self.sweep()
                if time.monotonic() >= self._purge_at:
                    self._purge()
        except Exception as error:
            if not from_database(error):
                raise
            log.warning("a sweep failed", extra={"error": type(error).__name__})

    def _purge(self) -> None:
        tokens.purge_expired(now() - PURGE_LATE)
        accounts.purge_guests(now() - timedelta(hours=self.settings.token_hours) - PURGE_LATE)
        self._purge_at = time.monotonic() + PURGE_SECONDS

    def _say_goodbye(self, connection: Connection) -> None:
        retry_after = round(random.uniform(*RETRY_AFTER), 3)  # noqa: S311 not a secret
        connection.push(frames.encode(frames.Goodbye(retry_after)))
        connection.close(Code.RESTART, "the server restarts: reconnect and resume")

    def _publish(self, new: list[frames.MessageFrame]) -> None:
        self.hub.publish([(message.room, message.rev, frames.encode(message)) for message in new])

    def _read_since(self, room: int, rev: int, limit: int) -> list[tuple[int, bytes]]:
        with self.app.app_context(), reading() as db:
            changed = messages.changed_since(db, room, rev, limit, frames.MessageFrame)
        return [(message.rev, frames.encode(message)) for message in changed]


def _for_ever(name: str, step: Callable[[], None]) -> None:
    """A bug in one step must not end a worker's heart for good, while it looks alive."""
    while True:
        try:
            step()
        except Exception:
            log.exception("a step failed", extra={"thread_name": name})
            time.sleep(SWEEP_SECONDS)


def init_app(app: Flask, settings: Settings) -> None:
    """Make the application's runtime, which closes the sockets of tokens that are revoked here."""
    runtime = Runtime(app, settings)
    app.extensions["bytechat.runtime"] = runtime

    def close_sockets(_app: Flask, jtis: set[str], *, disabled: bool) -> None:
        runtime.close_tokens(jtis, disabled=disabled)

    tokens.token_revoked.connect(close_sockets, app, weak=False)


def current_runtime() -> Runtime:
    """The runtime of the application that is handling this request."""
    return cast("Runtime", current_app.extensions["bytechat.runtime"])
