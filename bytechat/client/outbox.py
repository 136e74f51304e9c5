"""What was sent and is not acked: kept in order, and sent again until there is an answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import msgspec

from .errors import ClientError, Refused
from .shapes import Ack, ErrorFrame, Limits

#: Messages without an answer, where the server has a rate: of those that are over it as many are
#: refused, and a client that is refused too often is sent away (4429).
IN_FLIGHT_MAX = 10

#: Characters of the longest name of a message that a server takes (docs/websocket.md).
CLIENT_ID_MAX = 64


class Sent(Future[Ack]):
    """A message on its way. ``result(timeout)`` waits for its Ack.

    ``result`` raises Refused if the server will not have it, GaveUp if the client did, Closed if
    the program closed the client first, TimeoutError after ``timeout`` seconds (it is still on its
    way then). Callbacks of ``add_done_callback`` run in the client's own thread and must be quick.
    """

    def __init__(self, client_id: str) -> None:
        super().__init__()
        self.client_id = client_id
        self.set_running_or_notify_cancel()  # what may be on the wire cannot be called back


class _Post(msgspec.Struct):
    handle: Sent
    frame: bytes
    characters: int
    #: Whether it has been sent on this connection.
    sent: bool = False


class Outbox:
    """Not locked: its client does that. What was decided is in ``settled`` until it is taken."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._posts: dict[str, _Post] = {}
        self._limits = Limits()
        #: Nothing is sent before this time (monotonic seconds).
        self._not_before = 0.0
        #: Seconds between two frames.
        self._pace = 0.0
        self._settled: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._posts)

    @property
    def full(self) -> bool:
        return len(self._posts) >= self._window

    @property
    def has_settled(self) -> bool:
        return bool(self._settled)

    def find(self, client_id: str) -> Sent | None:
        post = self._posts.get(client_id)
        return post.handle if post else None

    def put(self, room: int | str, text: str, client_id: str, reply_to: int | None) -> Sent:
        """Raises ValueError for a text that is not Unicode (half a surrogate pair), or a name that
        no server takes: its refusal would not say whose it is.
        """
        if not 0 < len(client_id) <= CLIENT_ID_MAX or "\0" in client_id:
            raise ValueError(f"a client_id has 1 to {CLIENT_ID_MAX} characters, and no NUL")
        frame = {"type": "send", "room": room, "text": text, "client_id": client_id}
        if reply_to is not None:
            frame["reply_to"] = reply_to
        handle = Sent(client_id)
        self._posts[client_id] = _Post(handle, msgspec.json.encode(frame), len(text))
        return handle

    def connected(self, limits: Limits) -> None:
        """All of it goes out again, in the same order."""
        self._limits = limits
        self._not_before = 0.0
        for post in self._posts.values():
            post.sent = False

    def due(self, now: float) -> float | None:
        """Seconds until ``next`` has something; None if nothing waits to be sent."""
        if self._in_flight_full() or all(post.sent for post in self._posts.values()):
            return None
        return max(0.0, self._not_before - now)

    def next(self, now: float) -> bytes | None:
        """The next frame to send now."""
        if now < self._not_before or self._in_flight_full():
            return None
        for client_id, post in list(self._posts.items()):
            if post.sent:
                continue
            if 0 < self._limits.text < post.characters:
                # Not sent at all: a frame far over the limit would close the socket (1009).
                detail = f"A message has at most {self._limits.text} characters."
                self._settle(client_id, Refused("validation", detail))
                continue
            post.sent = True
            self._not_before = now + self._pace
            return post.frame
        self._pace = 0.0
        return None

    def _in_flight_full(self) -> bool:
        """Then an answer comes first."""
        if not self._limits.rate:
            return False
        return sum(post.sent for post in self._posts.values()) >= IN_FLIGHT_MAX

    def acked(self, ack: Ack) -> None:
        if ack.client_id is not None:
            self._settle(ack.client_id, ack)

    def refused(self, error: ErrorFrame, now: float) -> bool:
        """An ``error``; False if it is about nothing that was sent from here."""
        post = self._posts.get(error.client_id or "")
        if post is None:
            return False
        if error.retry_after is None:
            self._settle(post.handle.client_id, Refused(error.code, error.detail))
            return True
        # What was not sent yet waits behind it. What is on its way may be stored before it.
        post.sent = False
        self._not_before = max(self._not_before, now + error.retry_after)
        if error.code == "rate_limited":
            # All at once would be refused again, and ignoring the limit closes the socket (4429).
            self._pace = 1 / self._limits.rate if self._limits.rate else 1.0
        return True

    def fail(self, error: ClientError) -> None:
        """There will be no answers."""
        for client_id in list(self._posts):
            self._settle(client_id, error)

    def settled(self) -> list[Callable[[], None]]:
        """What tells the handles; to be called without a lock, for it runs their callbacks."""
        settled, self._settled = self._settled, []
        return settled

    def _settle(self, client_id: str, answer: Ack | ClientError) -> None:
        post = self._posts.pop(client_id, None)
        if post is None:
            return
        handle = post.handle
        if isinstance(answer, Ack):
            self._settled.append(lambda: handle.set_result(answer))
        else:
            self._settled.append(lambda: handle.set_exception(answer))
