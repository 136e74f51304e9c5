"""The client's side of the protocol, without sockets, threads or clocks: frames in, frames out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping

import msgspec

from .errors import ClientBug
from .events import Connected, Event, Reset, RoomChanged
from .log import Log
from .outbox import Outbox
from .shapes import (
    Ack,
    ErrorFrame,
    Goodbye,
    Hello,
    Message,
    ResetFrame,
    Room,
    RoomFrame,
    SyncFrame,
    decode,
)

PROTOCOL = 1

#: Seconds until a refused ``sync`` is tried again, if the refusal does not say. A socket may be
#: refused 20 times in a minute.
SYNC_AGAIN = 15.0

logger = logging.getLogger("bytechat.client")


class Conversation:
    """Not locked: the client does that.

    ``since`` is the rev to start after, by a room's id or name; other rooms start at the head that
    they have when they are first seen. At most about ``backlog`` events wait for the program. What
    comes when it is full is not kept, but asked for later: the log is at the server.
    """

    def __init__(
        self, since: Mapping[int, int] | Mapping[str, int], window: int, backlog: int
    ) -> None:
        self.outbox = Outbox(window)
        self.events: deque[Event] = deque()
        #: None before the first hello.
        self.hello: Hello | None = None
        self.rooms: dict[int, Room] = {}
        #: Seconds that the server asked for in its goodbye; each connection begins without.
        self.goodbye: float | None = None
        self._since: dict[int | str, int] = dict(since.items())
        self._backlog = backlog
        self._stalled = False
        self._logs: dict[int, Log] = {}
        #: By room, the rev up to which the program has taken everything.
        self._taken: dict[int, int] = {}

    @property
    def positions(self) -> dict[int, int]:
        # A program that stores them before the first hello must not lose those it was given.
        given = {room: rev for room, rev in self._since.items() if isinstance(room, int)}
        return given | self._taken

    def tell(self, event: Event) -> None:
        """Queue an event that can be done without: not if the program has stopped reading."""
        if not self._full():
            self.events.append(event)

    def take(self) -> Event | None:
        """The next event."""
        if not self.events:
            return None
        event = self.events.popleft()
        if len(self.events) <= self._backlog // 2:
            self._stalled = False
        return event

    def done(self, event: Event) -> None:
        """The program has seen to this event, and asks for the next."""
        if isinstance(event, Message):
            self._taken[event.room] = event.rev
        elif isinstance(event, Reset):
            self._taken[event.room] = event.head
        elif isinstance(event, RoomChanged) and event.gone:
            self._taken.pop(event.room.id, None)

    def receive(self, data: bytes, now: float) -> None:
        """A frame from the server. Raises msgspec.DecodeError, ClientBug."""
        match frame := decode(data):
            case Hello():
                self._connected(frame)
            case Message():
                self._pushed(frame)
            case Ack():
                self.outbox.acked(frame)
            case ErrorFrame():
                if not self.outbox.refused(frame, now):
                    self._sync_refused(frame, now)
            case SyncFrame() | ResetFrame():
                self._synced(frame)
            case RoomFrame():
                self._room_changed(frame)
            case Goodbye():
                self.goodbye = frame.retry_after
            case None:  # of a later version
                pass

    def next_frame(self, now: float) -> bytes | None:
        """What is to be sent now; None if nothing is. ``due`` says when to ask again."""
        for room, log in self._logs.items():
            if self._must_ask(log) and log.ask_at <= now:
                log.asked = True
                return msgspec.json.encode({"type": "sync", "room": room, "since": log.position})
        return self.outbox.next(now)

    def due(self, now: float) -> float | None:
        """Seconds until ``next_frame`` may have something; None if not before something happens."""
        waits = [max(0.0, log.ask_at - now) for log in self._logs.values() if self._must_ask(log)]
        if (wait := self.outbox.due(now)) is not None:
            waits.append(wait)
        return min(waits, default=None)

    def _must_ask(self, log: Log) -> bool:
        return log.behind and not log.asked and not self._stalled

    def _full(self) -> bool:
        if len(self.events) >= self._backlog:
            self._stalled = True
        return self._stalled

    def _connected(self, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            raise ClientBug(f"The server speaks version {hello.protocol} of the protocol.")
        self.hello = hello
        self.tell(Connected(hello))
        here = {room.id for room in hello.rooms}
        for room_id in [room_id for room_id in self._logs if room_id not in here]:
            self._leave(self.rooms.get(room_id, Room(id=room_id)))
        for room in hello.rooms:
            log = self._logs.get(room.id) or self._begin(room)
            self.rooms[room.id] = room
            log.connected(room.head)
        self.outbox.connected(hello.limits)

    def _begin(self, room: Room) -> Log:
        named = self._since.pop(room.name, None) if room.name is not None else None
        start = self._since.pop(room.id, named)
        log = self._logs[room.id] = Log(room.head if start is None else start)
        self.rooms[room.id] = room
        self._taken[room.id] = log.position
        return log

    def _pushed(self, message: Message) -> None:
        log = self._logs.get(message.room)
        if log is None:  # a room that this socket has just joined
            log = self._begin(Room(id=message.room, head=message.rev - 1))
        if self._full():
            log.heard(message.rev)
        else:
            self.events.extend(log.push(message))

    def _synced(self, frame: SyncFrame | ResetFrame) -> None:
        log = self._logs.get(frame.room)
        if log is None or not log.asked:
            return  # an answer to a question that is not ours any more
        if self._full():
            log.asked = False  # again, when there is room
            log.heard(frame.head)
        elif isinstance(frame, ResetFrame):
            self.events.append(Reset(frame.room, frame.head))
            self.events.extend(log.reset(frame.head))
        else:
            self.events.extend(log.page(frame.messages, frame.head, more=frame.more))

    def _sync_refused(self, error: ErrorFrame, now: float) -> None:
        """A ``sync`` has no client_id, so whichever was asked is asked again."""
        again = SYNC_AGAIN if error.retry_after is None else error.retry_after
        for log in self._logs.values():
            if log.asked:
                log.asked = False
                log.ask_at = now + again
        logger.warning("the server refused a frame: %s: %s", error.code, error.detail)

    def _room_changed(self, frame: RoomFrame) -> None:
        room = msgspec.convert(frame, Room, from_attributes=True)
        if frame.gone:
            self._leave(room)
            return
        # Of a room that is known its head says nothing: what is up to there may still be under way.
        if room.id not in self._logs:
            self._begin(room)
        self.rooms[room.id] = room
        self.tell(RoomChanged(room))

    def _leave(self, room: Room) -> None:
        self._logs.pop(room.id, None)
        self.rooms.pop(room.id, None)
        self.events.append(RoomChanged(room, gone=True))
