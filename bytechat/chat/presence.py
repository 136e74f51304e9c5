"""Who is online: with this worker, and with the others as far as they have told.

A user is online while any worker has them. What changes among a worker's users takes the worker's
next version, as a room's messages take the room's next number: whoever has missed one sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import NamedTuple

from ..auth.schemas import Account
from .hints import Change

#: Seconds for which somebody who has left still counts as there: a reconnect shows nothing.
LINGER_SECONDS = 10.0


class Turn(NamedTuple):
    """That somebody has come online, or gone, as the people in these rooms are to be told."""

    user: Account
    rooms: frozenset[int]
    online: bool


@dataclass(slots=True)
class _Here:
    """A user with sockets at this worker, or who had some until just now."""

    user: Account
    rooms: list[int]
    sockets: int = 0
    #: When they count as gone, in monotonic seconds; for those without sockets.
    until: float = 0


@dataclass(slots=True)
class _Online:
    """A user whom some workers have, in these rooms."""

    user: Account
    workers: dict[str, frozenset[int]] = field(default_factory=dict)

    @property
    def rooms(self) -> frozenset[int]:
        return frozenset().union(*self.workers.values())


#: Stands for this worker among the others.
HERE = ""


class Presence:
    """What one worker knows of who is online."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._here: dict[int, _Here] = {}
        self._online: dict[int, _Online] = {}
        self._rooms: dict[int, set[int]] = {}  # the users who are online, by room
        #: Who has changed since turns were taken, and in which rooms they were online before.
        self._before: dict[int, tuple[Account, frozenset[int]]] = {}
        #: What the other workers have not been told yet.
        self._untold: dict[int, Change] = {}
        self._seen: dict[str, int] = {}  # versions of the others

    def arrive(self, user: Account, rooms: Iterable[int]) -> None:
        """A socket of this user has been opened here."""
        with self._lock:
            here = self._here.get(user.id)
            if here is None:
                here = self._here[user.id] = _Here(user, list(rooms))
                self._change_here(Change(user, here.rooms))
            here.sockets += 1

    def depart(self, user: Account) -> None:
        """A socket of this user has been closed here."""
        with self._lock:
            here = self._here[user.id]
            here.sockets -= 1
            here.until = monotonic() + LINGER_SECONDS

    def expire(self, moment: float) -> None:
        """Let those go who have left long enough ago (``moment`` is monotonic)."""
        with self._lock:
            gone = [
                here for here in self._here.values() if not here.sockets and here.until <= moment
            ]
            for here in gone:
                del self._here[here.user.id]
                self._change_here(Change(here.user, []))

    def online(self, rooms: Iterable[int]) -> list[int]:
        """The ids of the users who are online in any of these rooms, each once."""
        with self._lock:
            return list(set().union(*(self._rooms.get(room, ()) for room in rooms)))

    def turns(self) -> list[Turn]:
        """Who has come or gone since this was asked the last time."""
        with self._lock:
            before, self._before = self._before, {}
            turns = []
            for user_id, (user, rooms) in before.items():
                now = self._online.get(user_id)
                if bool(now) != bool(rooms):
                    turns.append(Turn(user, now.rooms if now else rooms, online=bool(now)))
            return turns

    # What the others are told.

    def untold(self) -> list[Change]:
        """What has changed here since the last ``told``."""
        with self._lock:
            return list(self._untold.values())

    def all_here(self) -> list[Change]:
        """Everybody here, for whoever knows nothing of this worker."""
        with self._lock:
            return [Change(here.user, here.rooms) for here in self._here.values()]

    def told(self, changes: Iterable[Change]) -> None:
        """These changes can be read by all from now on."""
        with self._lock:
            for change in changes:
                if self._untold.get(change.user.id) == change:
                    del self._untold[change.user.id]

    # What the others tell.

    def missed(self, versions: Mapping[str, int]) -> dict[str, int]:
        """Which of the other workers have changes that are not known here, after which version."""
        with self._lock:
            return {
                worker: self._seen.get(worker, 0)
                for worker, version in versions.items()
                if version > self._seen.get(worker, 0)
            }

    def forget_others_than(self, living: Iterable[str]) -> None:
        """The other workers are gone, and their users with them."""
        with self._lock:
            for worker in self._seen.keys() - set(living):
                del self._seen[worker]
                for user in self._users_of(worker):
                    self._change(worker, Change(user, []))

    def follows(self, worker: str, version: int) -> bool:
        """Whether a worker's version is the next one that is to be learnt."""
        with self._lock:
            return version == self._seen.get(worker, 0) + 1

    def learn(self, worker: str, since: int, version: int, changes: Iterable[Change]) -> None:
        """Take what has changed among another worker's users after one version, up to another.

        Since version 0 these are all users that it has.
        """
        with self._lock:
            seen = self._seen.get(worker, 0)
            if not since <= seen < version:
                return  # it is known already; or something before it is not (any more)
            self._seen[worker] = version
            told = {change.user.id: change for change in changes}
            if not since:
                gone = (user for user in self._users_of(worker) if user.id not in told)
                told |= {user.id: Change(user, []) for user in gone}
            for change in told.values():
                self._change(worker, change)

    def doubt(self) -> None:
        """Learn all of the others anew: they may have forgotten who has left meanwhile."""
        with self._lock:
            self._seen = dict.fromkeys(self._seen, 0)

    def _users_of(self, worker: str) -> list[Account]:
        return [known.user for known in self._online.values() if worker in known.workers]

    def _change_here(self, change: Change) -> None:
        self._untold[change.user.id] = change
        self._change(HERE, change)

    def _change(self, worker: str, change: Change) -> None:
        """Note what a worker has of a user. With the lock held."""
        user = change.user
        known = self._online.get(user.id)
        before = known.rooms if known else frozenset()
        self._before.setdefault(user.id, (user, before))
        if change.rooms:
            known = known or self._online.setdefault(user.id, _Online(user))
            known.workers[worker] = frozenset(change.rooms)
        elif known:
            known.workers.pop(worker, None)
            if not known.workers:
                del self._online[user.id]
        after = known.rooms if known else frozenset()
        for room in before - after:
            self._rooms[room].discard(user.id)
            if not self._rooms[room]:
                del self._rooms[room]
        for room in after - before:
            self._rooms.setdefault(room, set()).add(user.id)
