"""The messages of the rooms as they are now, from the stream of their changes."""

from __future__ import annotations

from collections.abc import Iterable

from .events import Event, Reset, RoomChanged
from .shapes import Message


class Cache:
    """Messages by id; of two copies the one with the larger rev is kept.

    It grows with what is applied: a program that runs for months forgets rooms, or keeps its own.
    """

    def __init__(self) -> None:
        self._rooms: dict[int, dict[int, Message]] = {}

    def apply(self, event: Event) -> None:
        """Follow one event of the client."""
        if isinstance(event, Message):
            self.add([event])
        elif isinstance(event, Reset):
            self._rooms[event.room] = {}
            self.add(event.messages)
        elif isinstance(event, RoomChanged) and event.gone:
            self._rooms.pop(event.room.id, None)

    def add(self, messages: Iterable[Message]) -> None:
        """Keep these too, of a page of history, for example."""
        for message in messages:
            room = self._rooms.setdefault(message.room, {})
            known = room.get(message.id)
            if known is None or known.rev < message.rev:
                room[message.id] = message

    def messages(self, room: int) -> list[Message]:
        """The room's messages, ascending by seq."""
        return sorted(self._rooms.get(room, {}).values(), key=lambda message: message.seq)
