"""One room's log as a client receives it: each rev once, in order, none missing."""

from __future__ import annotations

from collections.abc import Iterable

from .shapes import Message

#: Messages kept while a gap before them is filled; later ones are asked for again.
EARLY_MAX = 1000


class Log:
    """What has come of one room, put in order.

    A rev may be missing from a ``sync`` page: a message that changed twice is there once, with
    its larger rev. Of what is pushed, each rev follows the one before (PROTOCOL, "Resume").
    """

    def __init__(self, position: int) -> None:
        #: The rev up to which everything has been given on.
        self.position = position
        #: The largest rev heard of.
        self.head = position
        # Whether the server may have another log than the one we have read.
        self._doubtful = False
        #: Whether a ``sync`` is on its way.
        self.asked = False
        #: When to ask, at the earliest (monotonic seconds).
        self.ask_at = 0.0
        self._early: dict[int, Message] = {}

    @property
    def behind(self) -> bool:
        return self.position < self.head or self._doubtful

    def connected(self, head: int) -> None:
        """A ``hello`` says where the room is.

        If that is before our position, either this worker has not given out yet what another one
        has, or the log is another one, as after a restored backup: ``sync`` tells which.
        """
        self.asked = False
        self.ask_at = 0.0
        self._doubtful = head < self.position
        # What was heard of from another connection may be lost with its database.
        self.head = max(self.position, head)
        self._early.clear()

    def heard(self, rev: int) -> None:
        """This rev exists, though it is not here."""
        self.head = max(self.head, rev)

    def push(self, message: Message) -> list[Message]:
        """A ``message``; returns what is now in order."""
        self.heard(message.rev)
        if message.rev == self.position + 1 or (
            message.rev > self.position and len(self._early) < EARLY_MAX
        ):
            self._early[message.rev] = message
        return self._in_order()

    def page(self, messages: Iterable[Message], head: int, *, more: bool) -> list[Message]:
        """A ``sync``; returns what is now in order."""
        self.asked = self._doubtful = False
        self.heard(head)
        given = []
        for message in messages:
            if message.rev > self.position:
                given.append(message)
                self.position = message.rev
        if not given and not more:
            # Nothing is left up to the head, though numbers were taken.
            self.position = max(self.position, head)
            self.head = max([self.position, *self._early])
        return given + self._in_order()

    def reset(self, head: int) -> list[Message]:
        """Go on from ``head``; returns what had come after it."""
        self.asked = self._doubtful = False
        self.position = head
        self.head = max([head, *self._early])
        return self._in_order()

    def _in_order(self) -> list[Message]:
        given = []
        while message := self._early.pop(self.position + 1, None):
            given.append(message)
            self.position = message.rev
        if self._early and min(self._early) <= self.position:
            # A page has passed them: each of these messages was in it, or is now in a later rev.
            self._early = {rev: m for rev, m in self._early.items() if rev > self.position}
            given += self._in_order()
        return given
