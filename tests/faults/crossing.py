"""How long a message takes from one worker to another, again and again."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Self

import msgspec

from bytechat.client import Ack
from tests.support.ledger import Ledger
from tests.support.people import Person, Talk, unused_name

#: Seconds in which the bus brings a message, and the sweep mostly does not: it comes once a second.
QUICK = 0.5

#: So many that are quick one after the other did not come by the sweep. It is what brings a message
#: that is said just after it, so without a bus each of them takes nearly a second.
IN_A_ROW = 4


class Crossing:
    """Two sockets on different workers, the second of which hears what is said at the first."""

    def __init__(self, near: Person, far: Person, ledger: Ledger) -> None:
        #: Who says it.
        self.near = near
        self._far_person = far
        self._ledger = ledger
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._near = self._stack.enter_context(self.near.talk())
            self._far = self._stack.enter_context(elsewhere(self._far_person, self._near))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self) -> float:
        """Say something; the seconds until it is heard, with the time of its commit."""
        client_id = unused_name("crossing")
        text = f"how long does {client_id} take?"
        author = self.near.id
        self._ledger.sent(author, client_id, text)
        began = time.monotonic()
        self._near.send(type="send", room="lobby", text=text, client_id=client_id)
        while self._far.next("message").get("client_id") != client_id:
            pass
        seconds = time.monotonic() - began
        answer = self._near.next("ack", "error")
        self._ledger.acked(author, msgspec.convert(answer, Ack))
        return seconds

    def longest(self, seconds: float) -> float:
        """The longest that one took, of those that were said within so many seconds."""
        ended = time.monotonic() + seconds
        longest = 0.0
        while time.monotonic() < ended:
            longest = max(longest, self.measure())
        print(f"within {seconds} s a message took {longest:.3f} s at most")
        return longest

    def is_quick(self, seconds: float) -> bool:
        """Whether, within so many seconds, the bus carries again."""
        began = time.monotonic()
        in_a_row = 0
        while time.monotonic() < began + seconds:
            in_a_row = in_a_row + 1 if self.measure() < QUICK else 0
            if in_a_row == IN_A_ROW:
                print(f"the bus was seen to carry after {time.monotonic() - began:.3f} s")
                return True
        return False


def elsewhere(person: Person, other: Talk) -> Talk:
    """A socket on another worker than that one's: the kernel decides, so until it is so."""
    while True:
        talk = person.talk()
        if talk.hello["worker"] != other.hello["worker"]:
            return talk
        talk.close()
