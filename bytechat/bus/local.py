"""The bus inside one process: for SQLite, which is for one, and for tests with several workers."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue

#: Seconds that a new topic may wait to be followed, if nothing arrives meanwhile.
HEAR_SECONDS = 0.5

PAYLOAD_MAX = 262_144


class LocalEngine:
    """Hands each payload to all lines that were opened on this very engine."""

    name = "local"
    payload_max = PAYLOAD_MAX

    def __init__(self) -> None:
        self._lines: list[LocalLine] = []

    @property
    def alone(self) -> bool:
        return len(self._lines) < 2

    def send(self, messages: list[tuple[str, bytes]]) -> None:
        for topic, payload in messages:
            for line in self._lines:
                line.take(topic, payload)

    def subscribe(self) -> LocalLine:
        line = LocalLine(self._lines)
        self._lines.append(line)
        return line

    def check(self) -> None:
        """Nothing: it is there as long as the process is."""

    def close(self) -> None:
        """Nothing: there is nothing open."""


class LocalLine:
    """A queue."""

    def __init__(self, lines: list[LocalLine]) -> None:
        self._lines = lines
        self._topics: frozenset[str] = frozenset()
        self._queue: SimpleQueue[bytes] = SimpleQueue()

    def take(self, topic: str, payload: bytes) -> None:
        if topic in self._topics:
            self._queue.put(payload)

    def follow(self, topics: frozenset[str]) -> bool:
        new = topics - self._topics
        self._topics = topics
        return bool(new)

    def hear(self) -> list[bytes]:
        arrived: list[bytes] = []
        with suppress(Empty):
            arrived.append(self._queue.get(timeout=HEAR_SECONDS))
            while True:
                arrived.append(self._queue.get_nowait())
        return arrived

    def close(self) -> None:
        self._lines.remove(self)
