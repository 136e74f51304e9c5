"""A worker's end of the bus: what it says, what it hears, and that it comes back by itself."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Protocol

from ..realtime.turns import TURN_SECONDS, give_way

log = logging.getLogger(__name__)

#: Payloads that may wait to be sent. They are dropped beyond that: the sweep finds their news.
QUEUE = 10_000

#: Payloads that are sent at once.
BATCH = 500

#: Seconds between two attempts to reach a bus that is away: doubled each time, and jittered.
BACK_OFF = (0.1, 2.0)

#: Takes what another worker, or this one, has sent to a topic that is followed.
Receiver = Callable[[bytes], None]


class BusDown(Exception):
    """The bus does not answer."""


class Subscription(Protocol):
    """An open line on which payloads arrive. Any of its methods raises when the line is broken."""

    def follow(self, topics: frozenset[str]) -> bool:
        """Follow these topics and no others; when it returns, all that is sent to them arrives.

        Returns whether there are some among them that were not heard before.
        """

    def hear(self) -> list[bytes]:
        """What has arrived; waits for it, but not for longer than a new topic may wait."""

    def close(self) -> None:
        """Give up the line."""


class Engine(Protocol):
    """What carries the payloads: PostgreSQL, Valkey, or nothing but this process."""

    name: str

    #: Bytes of the largest payload.
    payload_max: int

    @property
    def alone(self) -> bool:
        """Whether it is known that nobody else listens."""

    def send(self, messages: list[tuple[str, bytes]]) -> None:
        """Send each payload to its topic, in this order. Raises when that fails."""

    def subscribe(self) -> Subscription:
        """Open a line. Raises when that fails."""

    def check(self) -> None:
        """Raise when the engine does not answer within some seconds."""

    def close(self) -> None:
        """Let go of what is open for sending."""


class Bus:
    """Sends and hears in two threads of its own; none of its methods waits for the engine.

    ``receive`` is called for each payload that arrives. ``restored`` is called whenever a line
    stands that did not stand before: what was sent until then may have been missed, so read.
    """

    def __init__(self, engine: Engine, receive: Receiver, restored: Callable[[], None]) -> None:
        self._engine = engine
        self._receive = receive
        self._restored = restored
        self._lock = Lock()
        self._topics: set[str] = set()
        self._frozen: frozenset[str] | None = None  # a copy, until they change
        self._outgoing: deque[tuple[str, bytes]] = deque(maxlen=QUEUE)
        self._ring = Event()
        self._closed = False
        self._broken = False  # whether there is no line, after one has failed
        #: Payloads, since the start; and lines that stood after one had failed.
        self.sent = self.received = self.reconnects = 0

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def up(self) -> bool:
        """Whether the line stands, as far as is known; ``check`` asks."""
        return not self._broken

    @property
    def alone(self) -> bool:
        """Whether it is known that nobody else listens: then nothing need be published."""
        return self._engine.alone

    @property
    def payload_max(self) -> int:
        """Bytes of the largest payload that can be published."""
        return self._engine.payload_max

    def start(self) -> None:
        """Start to send and to hear."""
        for name, step in {"bus": self._send_step, "bus-line": self._listen_step}.items():
            Thread(target=self._run, args=(step,), name=name, daemon=True).start()

    def publish(self, topic: str, payload: bytes) -> None:
        """Send this to whoever follows the topic, if all goes well."""
        self._outgoing.append((topic, payload))
        self._ring.set()

    def flush(self) -> None:
        """Send what waits, here and now: for a process that is soon over. Raises if that fails."""
        while self._outgoing:
            batch: list[tuple[str, bytes]] = []
            while self._outgoing and len(batch) < BATCH:
                batch.append(self._outgoing.popleft())
            try:
                self._engine.send(batch)
            except Exception:
                self._outgoing.clear()  # by the time that it is back these are old
                raise
            self.sent += len(batch)

    def follow(self, topic: str) -> None:
        """Hear what is sent to this topic from now on; ``restored`` says when."""
        with self._lock:
            self._topics.add(topic)
            self._frozen = None

    def leave(self, topic: str) -> None:
        """Stop to hear what is sent to this topic."""
        with self._lock:
            self._topics.discard(topic)
            self._frozen = None

    def check(self) -> None:
        """Raise BusDown when the bus does not carry anything now."""
        if self._broken:
            raise BusDown
        try:
            self._engine.check()
        except Exception as error:
            raise BusDown from error

    def close(self) -> None:
        """Stop. What waits to be sent is not."""
        self._closed = True
        self._ring.set()
        self._engine.close()

    def _run(self, step: Callable[[], None]) -> None:
        """Do this for ever; after a failure wait, each time for longer."""
        pause, longest = BACK_OFF
        while not self._closed:
            began = time.monotonic()
            try:
                step()
                pause = BACK_OFF[0]
            except Exception as error:
                if time.monotonic() - began > longest:
                    pause = BACK_OFF[0]  # it had come back
                log.warning(
                    "the bus is away", extra={"engine": self.name, "error": type(error).__name__}
                )
                time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 not a secret
                pause = min(2 * pause, longest)

    def _send_step(self) -> None:
        self._ring.wait()
        self._ring.clear()
        if not self._closed:
            self.flush()

    def _listen_step(self) -> None:
        try:
            line = self._engine.subscribe()
        except Exception:
            self._broken = True
            raise
        try:
            followed: frozenset[str] | None = None
            while not self._closed:
                topics = self._wanted()
                if topics != followed:
                    news = line.follow(topics)
                    self.reconnects += self._broken
                    self._broken = False
                    if news or followed is None:
                        self._restored()
                    followed = topics
                began = time.monotonic()
                for payload in line.hear():
                    if time.monotonic() - began > TURN_SECONDS:
                        give_way()
                        began = time.monotonic()
                    self.received += 1
                    self._hear(payload)
        finally:
            self._broken = True
            with suppress(Exception):
                line.close()

    def _wanted(self) -> frozenset[str]:
        with self._lock:
            if self._frozen is None:
                self._frozen = frozenset(self._topics)
            return self._frozen

    def _hear(self, payload: bytes) -> None:
        try:
            self._receive(payload)
        except Exception:
            # The line is sound; whoever has sent this may be of another version.
            log.exception("what the bus brought could not be read")
