"""What a worker keeps while it runs: the hub, the journal, and the threads that serve them."""

from __future__ import annotations

import hmac
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
from ..bus import Engine, engine_for
from ..config import Settings
from ..errors import Unavailable, from_database
from ..extensions import db
from ..models import now
from ..realtime import pulse
from ..realtime.closing import Code
from ..realtime.connection import Connection
from ..realtime.framing import text_frame
from ..realtime.hub import Hub
from ..storage import reading
from . import frames, messages, rooms
from .hints import Committed, topic
from .journal import Journal
from .neighbours import Neighbours

log = logging.getLogger(__name__)

#: Seconds after which a step that has failed is tried again.
RETRY_SECONDS = 1.0

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

    def __init__(self, app: Flask, settings: Settings, engine: Engine) -> None:
        self.worker = token_hex(4)
        self.hub = Hub(
            self._read_since,
            entered=lambda room: self.neighbours.bus.follow(topic(room)),
            left=lambda room: self.neighbours.bus.leave(topic(room)),
        )
        self.neighbours: Neighbours = Neighbours(
            app, self.worker, self.hub, engine, shared=not settings.on_sqlite
        )
        self.journal = Journal(app, self._publish)
        self.crowds = rooms.Crowds()
        self.app = app
        self.settings = settings
        self._lock = Lock()
        self._started = False
        self._draining = False
        self._seats = 0

    def start(self) -> None:
        """Start the threads, once. Not made with the application, as ``flask db`` needs none."""
        with self._lock:
            if self._started:
                return
            self._started = True
        self.neighbours.start()
        steps: dict[str, Callable[[], None]] = {
            "hub": self.hub.step,
            "gaps": self.hub.catch_up,
            "journal": self.journal.step,
            "pulse": lambda: pulse.step(self.hub, self.settings.ping_every),
            "sweep": self.neighbours.sweep_step,
            "presence": self.neighbours.presence_step,
            "purge": self._purge_step,
        }
        for name, step in steps.items():
            Thread(target=_for_ever, args=(name, step), name=name, daemon=True).start()

    @property
    def seats_left(self) -> int:
        """How many more sockets there can be."""
        return self.settings.max_sockets - self._seats

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

    def _purge_step(self) -> None:
        with self.app.app_context():
            tokens.purge_expired(now() - PURGE_LATE)
            accounts.purge_guests(now() - timedelta(hours=self.settings.token_hours) - PURGE_LATE)
        time.sleep(PURGE_SECONDS)

    def _say_goodbye(self, connection: Connection) -> None:
        retry_after = round(random.uniform(*RETRY_AFTER), 3)  # noqa: S311 not a secret
        connection.push(frames.encode(frames.Goodbye(retry_after)))
        connection.close(Code.RESTART, "the server restarts: reconnect and resume")

    def _publish(self, new: list[frames.MessageFrame]) -> None:
        committed = [
            Committed(message.room, message.rev, frames.payload(message)) for message in new
        ]
        self.hub.publish((room, rev, text_frame(payload)) for room, rev, payload in committed)
        self.neighbours.tell_news(sorted(committed, key=lambda change: (change.room, change.rev)))

    def _read_since(self, room: int, rev: int, limit: int) -> list[tuple[int, bytes]]:
        with self.app.app_context(), reading() as db:
            changed = messages.changed_since(db, room, rev, limit, frames.MessageFrame)
        return [(message.rev, frames.encode(message)) for message in changed]


def _for_ever(name: str, step: Callable[[], None]) -> None:
    """An outage or a bug in one step must not end a worker's heart, while it looks alive."""
    while True:
        try:
            step()
        except Exception as error:
            if from_database(error):
                about = {"thread_name": name, "error": type(error).__name__}
                log.warning("the database failed a step", extra=about)
            else:
                log.exception("a step failed", extra={"thread_name": name})
            time.sleep(RETRY_SECONDS)


def init_app(app: Flask, settings: Settings) -> None:
    """Make the application's runtime, which closes the sockets of tokens that are revoked here."""
    with app.app_context():
        engine = engine_for(settings.bus_url, db.engine, _installation(app))
    runtime = Runtime(app, settings, engine)
    app.extensions["bytechat.runtime"] = runtime

    def close_sockets(_app: Flask, jtis: set[str], *, disabled: bool) -> None:
        runtime.neighbours.close_tokens(jtis, disabled=disabled)
        runtime.neighbours.tell_revoked(jtis, disabled=disabled)

    tokens.token_revoked.connect(close_sockets, app, weak=False)


def _installation(app: Flask) -> str:
    """A name that all workers of an installation have, and no other: their secret's, one way."""
    key = app.config["JWT_SECRET_KEY"].encode()
    return hmac.new(key, b"bytechat bus", "sha256").hexdigest()[:16]


def current_runtime() -> Runtime:
    """The runtime of the application that is handling this request."""
    return cast("Runtime", current_app.extensions["bytechat.runtime"])
