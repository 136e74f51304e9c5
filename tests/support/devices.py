"""A program on the real client, in a World."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from bytechat.chat import messages, rooms
from bytechat.chat.schemas import HistoryQuery
from bytechat.client import Ack, Cache, Event, Message, Page, Reset
from bytechat.client.conversation import Conversation
from bytechat.client.outbox import Sent

from .lines import Line, first
from .world import ROOMS, Worker, World

#: Messages of a page that is loaded after a reset.
NEWEST = 3

#: Of each client: messages without an ack, and events that wait for the program.
WINDOW = 4
BACKLOG = 6


class Device:
    """A program with the real client; it keeps a cache, as docs/client.md tells it to."""

    def __init__(self, world: World, user: int, since: Mapping[int, int]) -> None:
        self._world = world
        self.user = user
        self.cache = Cache()
        #: By room, the rev after which the cache must have everything.
        self.starts: dict[int, int] = {}
        #: The receipts of everything that was acked, and the client_ids of what was refused.
        self.acks: list[Ack] = []
        #: The connection, and all that there were.
        self.line: Line | None = None
        self.lines: list[Line] = []
        self.talk = Conversation(since, WINDOW, BACKLOG)
        self._greeted = False
        self._last: Event | None = None
        self._unsettled: list[Sent] = []

    @property
    def positions(self) -> dict[int, int]:
        return self.talk.positions

    def restart(self) -> None:
        """The program dies and is started again, with the cache and the positions that it keeps."""
        assert self.line is None
        self.talk.take()  # what it has not applied yet does not count
        self.talk = Conversation(self.positions, WINDOW, BACKLOG)
        self._last = None
        self._unsettled = []

    def say(self, room: int, text: str, client_id: str) -> bool:
        """Give a message to the client, unless its window is full or it has this one."""
        if self.talk.outbox.full or self.talk.outbox.find(client_id):
            return False
        self._unsettled.append(self.talk.outbox.put(room, text, client_id, None))
        return True

    def connect(self, worker: Worker) -> Line:
        """Begin to; the line goes on from there."""
        assert self.line is None
        self.line = Line(worker, self.user)
        self.lines.append(self.line)
        self._greeted = False
        return self.line

    def cut(self) -> Line:
        """Lose the connection; its worker does not know yet."""
        assert self.line
        line, self.line = self.line, None
        line.cut()
        return line

    def has_to_send(self, now: float) -> bool:
        return self.line is not None and self._greeted and self.talk.due(now) == 0

    def send(self, now: float) -> bool:
        """Send what there is to send; whether there was anything."""
        if self.line is None or not self._greeted:
            return False
        sent = False
        while frame := self.talk.next_frame(now):
            self.line.wire.up.append(frame.decode())
            sent = True
        return sent

    def take(self, now: float, number: int = 1) -> bool:
        """Take some frames from the socket; whether there was one."""
        taken = False
        for payload in first(self.line.wire.down if self.line else deque(), number):
            before = self.talk.hello
            self.talk.receive(payload, now)
            self._greeted = self._greeted or self.talk.hello is not before
            for room, rev in self.positions.items():
                self.starts.setdefault(room, rev)
            taken = True
        for tell in self.talk.outbox.settled():
            tell()
        self.acks += [sent.result(0) for sent in self._unsettled if sent.done()]
        self._unsettled = [sent for sent in self._unsettled if not sent.done()]
        return taken

    def follow(self) -> bool:
        """The program asks for the next event, and applies it; whether there is one."""
        if self._last is not None:
            self.talk.done(self._last)
        self._last = event = self.talk.take()
        if event is None:
            return False
        if isinstance(event, Message):
            assert event.rev > self.positions[event.room], "given twice, or late"
            assert event == self._world.versions[event.room, event.rev]
        elif isinstance(event, Reset):
            assert event.head > self.positions[event.room], "nothing was missed"
            event = Reset(event.room, event.head, self._newest(event.room))
            self.starts[event.room] = event.head
        self.cache.apply(event)
        return True

    def exchange(self, now: float) -> bool:
        """All that is under way arrives, and is answered; whether there was anything."""
        if self.line is None:
            return False
        busy = self.line.advance()
        busy |= self.send(now)
        self.line.read(len(self.line.wire.up))
        busy |= self.take(now, len(self.line.wire.down))
        while self.follow():
            busy = True
        return busy

    def exchange_all(self, now: float) -> None:
        """Until nothing is under way."""
        while self.exchange(now):
            pass

    def skipped(self) -> list[tuple[int, int]]:
        return [missing for line in self.lines for missing in line.skipped()]

    def _newest(self, room: int) -> tuple[Message, ...]:
        """The newest page of the history, as HTTP gives it."""
        with self._world.transaction() as db:
            found = rooms.find(db, self.user, str(room))
            page = messages.history(db, found, HistoryQuery(limit=NEWEST))
        return msgspec.json.decode(msgspec.json.encode(page), type=Page).messages

    def check(self) -> None:
        """What it has is true, and up to its positions it has all; acked means committed."""
        for room in ROOMS:
            cached = {message.id: message for message in self.cache.messages(room)}
            log = self._world.logs[room]
            position = self.positions.get(room, -1)
            for message in cached.values():
                newest = log.rows[message.id]
                assert self._world.versions[room, message.rev] == message
                assert message == newest or newest.rev > position
            wanted = range(self.starts.get(room, 0) + 1, position + 1)
            for message in log.rows.values():
                assert message.rev not in wanted or cached.get(message.id) == message
        for ack in self.acks:
            message = self._world.logs[ack.room].rows[ack.id]
            assert (message.user.id, message.client_id) == (self.user, ack.client_id)
            assert (message.seq, message.created_at) == (ack.seq, ack.created_at)
            assert message.seq <= ack.rev <= message.rev
