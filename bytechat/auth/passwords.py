"""bcrypt, off the event loop: in one native thread, with a short queue before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from threading import Semaphore
from typing import TypeVar

import bcrypt
from gevent.monkey import is_module_patched
from gevent.threadpool import ThreadPool

from ..errors import TooBusy

#: Hashes that may wait. At cost 12 (about 0.25 s each) the last of them waits 4 s.
QUEUE = 16

T = TypeVar("T")

_places = Semaphore(QUEUE)
_under_way: deque[None] = deque()  # one for each place that is taken


def hashed(password: bytes, rounds: int) -> str:
    """The bcrypt hash. Raises TooBusy when the queue is full."""
    return _natively(lambda: bcrypt.hashpw(password, bcrypt.gensalt(rounds))).decode()


def matches(password: bytes, password_hash: str | None, rounds: int) -> bool:
    """Whether the hash is this password's. Raises TooBusy when the queue is full.

    Without a hash (nobody has that name) it hashes all the same and throws the result away, so
    that the time of the answer does not tell which names exist.
    """
    if password_hash is None:
        hashed(password, rounds)
        return False
    return _natively(lambda: bcrypt.checkpw(password, password_hash.encode()))


def waiting() -> int:
    """Hashes that are made or wait for it."""
    return len(_under_way)


def _natively(work: Callable[[], T]) -> T:
    if not _places.acquire(blocking=False):
        raise TooBusy("Too many people are signing in; try again in a moment.", retry_after=2)
    _under_way.append(None)
    try:
        if not is_module_patched("threading"):
            return work()  # as under `flask run`: this is a native thread of its own
        result: T = _thread().apply(work)
        return result
    finally:
        _under_way.pop()
        _places.release()


@cache
def _thread() -> ThreadPool:
    """One native thread: a second would only take the other core away from the event loop.

    Made on first use, as it belongs to the event loop of the process that makes it.
    """
    return ThreadPool(1)
