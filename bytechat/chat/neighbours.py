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
from ..realtime.turns import give_way
from ..storage import reading, transaction
from . import frames, hints, rooms, workers
from .hints import ALL, Change, Committed, Hint
from .presence import Presence, Turn
from .workers import LEFT, State

log = logging.getLogger(__name__)

#: Seconds between two sweeps; and the shortest time between two that the bus asks for.
SWEEP_SECONDS = 1.0
SWEEP_AGAIN_SECONDS = 0.05

#: Seconds within which those who come or go are told together; or as many for each socket of the
#: worker, up to BEAT_SECONDS. All are told of all: a crowd that comes is told of in a few pieces.
PRESENCE_SECONDS = 0.5
PRESENCE_SECONDS_EACH = 0.0005

#: Seconds between two signs of life.
BEAT_SECONDS = 2.0

#: Seconds without a look at the database after which others may have been unable to beat, too.
OUTAGE_SECONDS = 3.0

#: So few who come or go are told one by one, and then nobody is told of themselves.
FEW = 16

#: And so many in one piece, at most.
MANY = 500

#: Tokens of one hint: they have 36 characters, and a hint has room for 7,900.
TOKENS_AT_ONCE = 100

#: More than the clocks of two machines are apart.
CLOCK_SKEW = timedelta(seconds=60)


class Neighbours:
    """``worker`` is this worker's own name; ``shared`` is whether others may use the database."""

    def __init__(self, app: Flask, worker: str, hub: Hub, engine: Engine, *, shared: bool) -> None:
        self.worker = worker
        self.presence = Presence()
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
        self._swept = Event()
        self._swept_at = 0.0
        self._beat_at = 0.0
        #: The number of this worker's latest version; and how often it was given up, and came back.
        self._version = self._comebacks = 0
        #: When the database was read last, and from when on who is silent then counts as dead.
        self._read_at = self._calm_at = 0.0
        #: When those who had left by a version were forgotten; and the next such version.
        self._forgot_at, self._forgettable = 0.0, 0
        self._revoked_since = now() - CLOCK_SKEW

    def start(self) -> None:
        """Hear the others, and look at what they have done."""
        self.bus.follow(ALL)
        self.bus.start()
        self.look()

    def wait_for_sweep(self, seconds: float) -> None:
        """Wait for the first one, at most this long: before it nobody else is known here."""
        self._swept.wait(seconds)

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
        if hint.worker.partition("-")[0] != self.worker:
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
            self.presence.learn(hint.worker, hint.version - 1, hint.version, hint.changes)
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
        frame = frames.encode(frames.Typing(room, user))
        self._hub.whisper([room], frame, besides=user.id, droppable=True)

    # The sweep.

    def sweep_step(self) -> None:
        """Wait for the time of a sweep, or for a reason, and sweep."""
        self._sweep_now.wait(SWEEP_SECONDS)
        self._sweep_now.clear()
        time.sleep(max(0.0, self._swept_at + SWEEP_AGAIN_SECONDS - monotonic()))
        self._swept_at = monotonic()
        with self._app.app_context():
            self.sweep()
        self._swept.set()
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
        self.sockets = {name.partition("-")[0]: state.sockets for name, state in living.items()}
        versions = {name: state.version for name, state in living.items() if name != self._name}
        moment = monotonic()
        away, self._read_at = moment - self._read_at, moment
        if away > OUTAGE_SECONDS:
            # Whoever is silent may be so because the database was away from them, too.
            self._calm_at = moment + 2 * BEAT_SECONDS
        if away > workers.DEAD.total_seconds():
            self.presence.doubt()
        if moment >= self._calm_at:
            self.presence.forget_others_than(versions)
        for worker, since in self.presence.missed(versions).items():
            version, changes = workers.changes_since(db, worker, since)
            self.presence.learn(worker, since, max(version, versions[worker]), changes)

    # Presence.

    @property
    def _name(self) -> str:
        """This worker in the database: another one each time that it has come back."""
        return f"{self.worker}-{self._comebacks}"

    def presence_step(self) -> None:
        """Tell who has come or gone: the people here, then the other workers."""
        seconds = len(self._hub) * PRESENCE_SECONDS_EACH
        time.sleep(max(PRESENCE_SECONDS, min(seconds, BEAT_SECONDS)))
        self.presence.expire(monotonic())
        self._show_turns(self.presence.turns())
        if self._shared:
            self._tell_changes()
        else:
            self.presence.told(self.presence.untold())

    def _show_turns(self, turns: list[Turn]) -> None:
        together: dict[frozenset[int], list[Turn]] = {}
        for turn in turns:
            together.setdefault(turn.rooms, []).append(turn)
        for room_ids, group in together.items():
            give_way()
            shown = [
                (turn.user.id, frames.encode(frames.Presence(turn.user, turn.online)))
                for turn in group
            ]
            if len(shown) > FEW:
                for start in range(0, len(shown), MANY):
                    part = b"".join(frame for _, frame in shown[start : start + MANY])
                    self._hub.whisper(room_ids, part)
            else:
                for user_id, frame in shown:
                    self._hub.whisper(room_ids, frame, besides=user_id)

    def _tell_changes(self) -> None:
        changes = self.presence.untold()
        if not changes and monotonic() - self._beat_at < BEAT_SECONDS:
            return
        # Never the same one twice: what a commit that failed has written, others may have read.
        self._version += bool(changes)
        state = State(self._version, len(self._hub))
        with self._app.app_context(), transaction() as db:
            here = workers.beat(db, self._name, state)
            if here:
                workers.note(db, self._name, self._version, changes)
        if not here:
            self._arrive(state)
        self._beat_at = monotonic()
        self.presence.told(changes)
        self._publish_changes(self._version, changes)
        if monotonic() >= self._calm_at:
            with self._app.app_context(), transaction() as db:
                workers.bury(db)
                self._forget_who_left(db)

    def _forget_who_left(self, db: Connection) -> None:
        moment = monotonic()
        if moment - self._forgot_at >= LEFT.total_seconds():
            workers.forget_who_left(db, self._name, self._forgettable)
            self._forgot_at, self._forgettable = moment, self._version

    def _arrive(self, state: State) -> None:
        """The first time; or this worker was silent for so long that the others forgot it."""
        self._comebacks += 1
        self.presence.doubt()
        with self._app.app_context(), transaction() as db:
            workers.arrive(db, self._name, state)
            workers.note(db, self._name, state.version, self.presence.all_here())

    def _publish_changes(self, version: int, changes: list[Change]) -> None:
        if not changes:
            return
        payload = hints.encode(hints.Presence(self._name, version, changes))
        if len(payload) > self.bus.payload_max:
            payload = hints.encode(hints.Presence(self._name, version))
        self.bus.publish(ALL, payload)
