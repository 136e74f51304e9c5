"""What a program uses: sign in, say, receive, close."""

from __future__ import annotations

import contextlib
import logging
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from .conversation import Conversation
from .errors import Closed, GaveUp, Refused, Unreachable
from .events import Event, Reset
from .link import Link
from .outbox import Sent
from .retry import Backoff
from .shapes import Hello, Message, Page, Room, User
from .web import Web

logger = logging.getLogger("bytechat.client")

Since = Mapping[int, int] | Mapping[str, int]


class Client:
    """One account on one server, connected until ``close()``: docs/client.md shows how to use it.

    ``url`` is the server's address, ``http://localhost:8080`` for example. ``since`` gives, by a
    room's id or name, the rev after which its changes are wanted; without it they are wanted from
    now on. At most ``window`` messages wait for their ack, and about ``backlog`` events for the
    program. Every ``ping_every`` seconds the connection is tested; one that is dead is noticed
    within twice that. ``context`` is for a certificate that the system does not know.

    It connects in the background at once. All methods may be called from any thread.
    Raises ValueError for an address that is none.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        since: Since | None = None,
        window: int = 100,
        backlog: int = 10_000,
        ping_every: float = 20.0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        if window < 1 or backlog < 1:
            raise ValueError("window and backlog are at least 1")
        self._web = Web(url, context)
        self._token = token
        self._conversation = Conversation(since or {}, window, backlog)
        #: Given to the program, and not yet seen to.
        self._last: Event | None = None
        #: One that was taken, and has no page yet.
        self._reset: Reset | None = None
        self._link = Link(
            self._web.ws_url, token, self._conversation, ping_every=ping_every, context=context
        )

    @classmethod
    def login(
        cls,
        url: str,
        username: str,
        password: str,
        *,
        since: Since | None = None,
        window: int = 100,
        backlog: int = 10_000,
        ping_every: float = 20.0,
        context: ssl.SSLContext | None = None,
    ) -> Self:
        """Sign in for a new token. Raises Refused, Unreachable, ValueError."""
        return cls(
            url,
            Web(url, context).login(username, password).token,
            since=since,
            window=window,
            backlog=backlog,
            ping_every=ping_every,
            context=context,
        )

    @staticmethod
    def register(
        url: str, username: str, password: str, *, context: ssl.SSLContext | None = None
    ) -> User:
        """Make an account. Raises Refused, Unreachable, ValueError."""
        return Web(url, context).register(username, password)

    def __repr__(self) -> str:
        state = "over" if self._link.over else "connected" if self._link.up else "connecting"
        return f"<Client {self._web.url} {state}>"

    @property
    def user(self) -> User | None:
        """Who this is; None before the first hello."""
        hello = self._conversation.hello
        return hello.user if hello else None

    @property
    def rooms(self) -> dict[int, Room]:
        """The rooms that the account is in, by id. Their ``head`` is that of the last news."""
        with self._link.lock:
            return dict(self._conversation.rooms)

    @property
    def positions(self) -> dict[int, int]:
        """By room id, the rev up to which the program has seen everything.

        The event that was given last counts only when the next one is asked for. So this can be
        stored at any time and given as ``since`` to another Client: nothing is missed then, and one
        event may come twice.
        """
        with self._link.lock:
            return self._conversation.positions

    @property
    def unacked(self) -> int:
        """How many messages wait for their ack."""
        with self._link.lock:
            return len(self._conversation.outbox)

    def connected(self, timeout: float | None = None) -> Hello:
        """Wait for a connection (seconds). Raises TimeoutError, GaveUp, Closed."""
        with self._link.lock:
            if not self._link.wait(lambda: self._link.up and not self._link.over, timeout):
                raise TimeoutError
            assert self._conversation.hello is not None
            return self._conversation.hello

    def send(
        self,
        room: int | str,
        text: str,
        *,
        reply_to: int | None = None,
        client_id: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Say something; ``result()`` of the answer waits until it is committed.

        It is sent again after every break, in order and under the same ``client_id`` (a new UUID by
        default), until there is an answer. While the window is full this waits for a place, at most
        ``timeout`` seconds. Raises TimeoutError, GaveUp, Closed, ValueError (the text is not
        Unicode, or the ``client_id`` not of 1 to 64 characters).
        """
        client_id = client_id or str(uuid.uuid4())
        if self._link.is_this_thread:
            timeout = 0.0  # a callback of Sent: it would wait for itself
        outbox = self._conversation.outbox
        link = self._link
        with link.lock:
            # The end empties the outbox: a place in it is then worth nothing.
            if not link.wait(
                lambda: not link.over and (not outbox.full or outbox.find(client_id)), timeout
            ):
                raise TimeoutError
            sent = outbox.find(client_id) or outbox.put(room, text, client_id, reply_to)
            link.wake()
        return sent

    def receive(self, timeout: float | None = None) -> Event:
        """The next event (docs/client.md); waits for it, ``timeout`` seconds at most.

        Raises TimeoutError, Closed, and GaveUp after the last event.
        """
        conversation, link = self._conversation, self._link
        deadline = None if timeout is None else time.monotonic() + timeout
        with link.lock:
            if self._last is not None:
                conversation.done(self._last)
                self._last = None
            event: Event | None = self._reset
            if event is None:
                if not link.wait(
                    lambda: conversation.events and not isinstance(link.over, Closed), timeout
                ):
                    raise TimeoutError
                event = conversation.take()
                assert event is not None
                link.wake()  # a room that fell behind may be asked for now
        if isinstance(event, Reset):
            self._reset = event  # the next call's, if there is no page in time
            event = self._with_newest_page(event, deadline)
        with link.lock:
            self._reset = None
            self._last = event
        return event

    def events(self) -> Iterator[Event]:
        """All events until ``close()``. Raises GaveUp."""
        while True:
            try:
                yield self.receive()
            except Closed:
                return

    def messages(self) -> Iterator[Message]:
        """The changes of all rooms until ``close()``, for programs that keep no cache.

        Each is a Message as it is after its change; a Reset is passed over. Raises GaveUp.
        """
        return (event for event in self.events() if isinstance(event, Message))

    def history(
        self,
        room: int | str,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
    ) -> Page:
        """A page of a room's messages, by seq (docs/http.md). Raises Refused, Unreachable."""
        cursor = {"before": before, "after": after, "around": around}
        query = {name: seq for name, seq in cursor.items() if seq is not None}
        return self._web.history(self._token, room, limit=limit, **query)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until nothing is unacked (seconds); whether that is so.

        Raises GaveUp, Closed: it is not known then what has become of the last ones.
        """
        link, outbox = self._link, self._conversation.outbox
        with link.lock:
            return link.wait(lambda: not link.over and not len(outbox), timeout)

    def close(self, timeout: float = 5.0) -> None:
        """End; what is unacked has ``timeout`` seconds before. May be called again.

        What is still unacked after that raises Closed; it may have arrived nevertheless.
        """
        if not self._link.over and not self._link.is_this_thread:
            with contextlib.suppress(GaveUp, Closed):
                self.flush(timeout)
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close() if kind is None else self.close(timeout=0)

    def _with_newest_page(self, reset: Reset, deadline: float | None) -> Reset:
        """Load what a Reset promises, in the program's thread; the stream waits behind it.

        Raises TimeoutError after the deadline (monotonic seconds), Closed, GaveUp.
        """
        backoff = Backoff()
        while True:
            try:
                return Reset(reset.room, reset.head, self.history(reset.room).messages)
            except (Refused, Unreachable) as error:
                if isinstance(error, Refused) and error.retry_after is None:
                    # Not in the room any more, or signed out: the stream will say so.
                    logger.warning("room %s cannot be read: %s", reset.room, error)
                    return reset
            pause = backoff.next()
            if deadline is not None and time.monotonic() + pause >= deadline:
                raise TimeoutError
            with self._link.lock:
                self._link.wait(lambda: False, pause)
