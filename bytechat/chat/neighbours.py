"""The other workers: what they are told over the bus, and what is learnt of them.

The bus is a doorbell. What it loses is found by the sweep, which compares numbers with the database
about once a second: the rooms' heads, the workers' versions, and the blocklist.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from datetime import timedelta
from itertools import islice
from threading import Event
from time import monotonic

from flask import Flask
from sqlalchemy import Connection

from ..auth import tokens
from ..auth.schemas import Account
from ..bus import Bus, Engine
from ..models import now
from ..realtime.closing import Code
from ..realtime.framing import text_frame
from ..realtime.hub import Hub
from ..storage import reading, transaction
from . import frames, hints, rooms, workers
from .hints import ALL, Change, Committed, Hint
from .presence import Presence, Turn
from .workers import State

log = logging.getLogger(__name__)

#: Seconds between two sweeps; and the shortest time between two that the bus asks for.
SWEEP_SECONDS = 1.0
SWEEP_AGAIN_SECONDS = 0.05

#: Seconds within which those who come or go are told together.
PRESENCE_SECONDS = 0.5

#: Seconds between two signs of life.
BEAT_SECONDS = 2.0

#: So few who come or go are told one by one, and then nobody is told of themselves.
FEW = 16

#: Tokens of one hint: they have 36 characters, and a hint has room for 7,900.
TOKENS_AT_ONCE = 100

#: More than the clocks of two machines are apart.
CLOCK_SKEW = timedelta(seconds=60)


class Neighbours:
    """``worker`` is this worker's own name; ``shared`` is whether others may use the database."""

    def __init__(self, app: Flask, worker: str, hub: Hub, engine: Engine, *, shared: bool) -> None:
        self.worker = worker
        self.presence = Presence(worker)
        self.bus = Bus(engine, self._receive, self.look)
        #: How many sockets each living worker has.
        self.sockets: dict[str, int] = {}
        #: How many sweeps have succeeded, and the seconds that they took.
        self.sweeps = 0
        self.sweep_seconds = 0.0
        self._app = app
        self._hub = hub
        self._shared = shared
        self._sweep_now = Event()
        self._swept_at = 0.0
        self._beat_at = 0.0
        self._revoked_since = now() - CLOCK_SKEW

    def start(self) -> None:
        """Hear the others."""
        self.bus.follow(ALL)
        self.bus.start()

    def look(self) -> None:
        """Sweep soon: something may have been missed."""
        self._sweep_now.set()

    # What the others are told.

    def tell_news(self, committed: list[Committed]) -> None:
        """These changes are in the database: ascending by room and rev."""
        if self.bus.alone or not self.sockets.keys() - {self.worker}:
            return  # nobody else was there at the last sweep; who has come since sweeps, too
        for hint in hints.news(self.worker, committed, self.bus.payload_max):
            self.bus.publish(hints.topic(hint.room), hints.encode(hint))

    def tell_revoked(self, jtis: Iterable[str], *, disabled: bool) -> None:
        """These tokens are on the blocklist."""
        if not self.bus.alone:
            some = iter(jtis)
            while part := list(islice(some, TOKENS_AT_ONCE)):
                self.bus.publish(ALL, hints.encode(hints.Revoked(self.worker, part, disabled)))

    def tell_typing(self, room: int, user: Account) -> None:
        """Show the room that somebody is writing, here and there. Nothing remembers it."""
        self._show_typing(room, user)
        if not self.bus.alone:
            hint = hints.Typing(self.worker, room, user)
            self.bus.publish(hints.topic(room), hints.encode(hint))

    # What they tell.

    def _receive(self, payload: bytes) -> None:
        hint = hints.decode(payload)
        if hint.worker != self.worker:
            self._act_on(hint)

    def _act_on(self, hint: Hint) -> None:
        if isinstance(hint, hints.News):
            first = hint.rev - len(hint.frames) + 1
            self._hub.publish(
                (hint.room, rev, text_frame(bytes(frame)))
                for rev, frame in enumerate(hint.frames, start=first)
            )
            self._hub.compare({hint.room: hint.rev})
        elif isinstance(hint, hints.Typing):
            self._show_typing(hint.room, hint.user)
        elif isinstance(hint, hints.Revoked):
            self.close_tokens(set(hint.tokens), disabled=hint.disabled)
        elif hint.changes and self.presence.follows(hint.worker, hint.version):
            self.presence.learn(hint.worker, hint.version, hint.changes)
        else:
            self.look()

    def close_tokens(self, jtis: set[str], *, disabled: bool) -> None:
        """Close the sockets of these tokens; ``disabled`` is whether their accounts are."""
        if not jtis:
            return
        code = Code.ACCOUNT_DISABLED if disabled else Code.TOKEN_ENDED
        reason = "the account is disabled" if disabled else "signed out"
        for connection in self._hub.connections():
            if connection.token in jtis:
                connection.close(code, reason)

    def _show_typing(self, room: int, user: Account) -> None:
        self._hub.whisper([room], frames.encode(frames.Typing(room, user)), besides=user.id)

    # The sweep.

    def sweep_step(self) -> None:
        """Wait for the time of a sweep, or for a reason, and sweep."""
        self._sweep_now.wait(SWEEP_SECONDS)
        self._sweep_now.clear()
        time.sleep(max(0.0, self._swept_at + SWEEP_AGAIN_SECONDS - monotonic()))
        self._swept_at = monotonic()
        with self._app.app_context():
            self.sweep()
        self.sweeps += 1
        self.sweep_seconds += monotonic() - self._swept_at

    def sweep(self) -> None:
        """Learn from the database what other workers have done.

        Correctness rests on this alone. Needs an application context; raises what the database
        raises.
        """
        began = now()
        if len(self._hub):
            with reading() as db:
                self._hub.compare(rooms.heads(db, self._hub.rooms()))
            for disabled, jtis in tokens.revoked_since(self._revoked_since).items():
                self.close_tokens(jtis, disabled=disabled)
        # Not before all of it has succeeded: an outage must not hide what was revoked during it.
        self._revoked_since = began - CLOCK_SKEW
        if self._shared:
            with reading() as db:
                self._learn_who_is_online(db)

    def _learn_who_is_online(self, db: Connection) -> None:
        living = workers.living(db)
        self.sockets = {worker: state.sockets for worker, state in living.items()}
        versions = {worker: state.version for worker, state in living.items()}
        for worker, since in self.presence.missed(versions).items():
            version, changes = workers.changes_since(db, worker, since)
            self.presence.learn(worker, max(version, versions[worker]), changes)

    # Presence.

    def presence_step(self) -> None:
        """Tell who has come or gone: the people here, then the other workers."""
        time.sleep(PRESENCE_SECONDS)
        self.presence.expire(monotonic())
        self._show_turns(self.presence.turns())
        if self._shared:
            self._tell_changes()
        else:
            self.presence.told(self.presence.version, self.presence.untold())

    def _show_turns(self, turns: list[Turn]) -> None:
        together: dict[frozenset[int], list[Turn]] = {}
        for turn in turns:
            together.setdefault(turn.rooms, []).append(turn)
        for room_ids, group in together.items():
            shown = [
                (turn.user.id, frames.encode(frames.Presence(turn.user, turn.online)))
                for turn in group
            ]
            if len(shown) > FEW:
                self._hub.whisper(room_ids, b"".join(frame for _, frame in shown))
            else:
                for user_id, frame in shown:
                    self._hub.whisper(room_ids, frame, besides=user_id)

    def _tell_changes(self) -> None:
        changes = self.presence.untold()
        if not changes and monotonic() - self._beat_at < BEAT_SECONDS:
            return
        version = self.presence.version + bool(changes)
        with self._app.app_context(), transaction() as db:
            state = State(version, len(self._hub))
            written = changes
            if not workers.beat(db, self.worker, state):
                # The first time; or it was silent for so long that it was given up.
                workers.arrive(db, self.worker, state)
                written = self.presence.all_here()
            workers.note(db, self.worker, version, written)
            workers.bury(db)
        self._beat_at = monotonic()
        self.presence.told(version, changes)
        self._publish_changes(version, changes)

    def _publish_changes(self, version: int, changes: list[Change]) -> None:
        if not changes:
            return
        payload = hints.encode(hints.Presence(self.worker, version, changes))
        if len(payload) > self.bus.payload_max:
            payload = hints.encode(hints.Presence(self.worker, version))
        self.bus.publish(ALL, payload)
