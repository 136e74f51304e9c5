"""One open socket as the chat sees it: who is there, in which rooms, and what they just said."""

from __future__ import annotations

import logging
from collections import deque
from math import inf
from threading import Event
from time import monotonic

from ..errors import ApiError, Internal, Invalid, NotFound, from_database
from ..models import LOBBY
from ..realtime.closing import Code
from ..realtime.connection import Connection
from ..storage import reading
from . import frames, messages, rooms
from .handshake import Admission
from .posts import Answer, Post
from .rooms import Place
from .runtime import Runtime
from .schemas import CHANGES_MAX, ChangesQuery

log = logging.getLogger(__name__)

#: Refused frames in REFUSED_SECONDS after which a client is broken, and closed with 4400.
REFUSED_MAX = 20
REFUSED_SECONDS = 60.0


#: Seconds within which a room is told once that somebody is writing.
TYPING_SECONDS = 3.0

#: Changes that a client may be behind; one that is further behind loads the newest page instead.
#: One that is ahead of the log knows another one (the database was restored from a backup).
RESET_AFTER = 1000


#: Posts of a socket that wait for their commit; until one is answered no more is read. So those who
#: say too much are held back by TCP, and the journal gets its turn, instead of refusing them.
WINDOW = 256


class Peer:
    """Answers the frames of one connection. A refused frame leaves the socket open."""

    __slots__ = (
        "_answered",
        "_connection",
        "_news",
        "_refused_at",
        "_room_ids",
        "_runtime",
        "_said",
        "_typed",
        "_user",
    )

    def __init__(self, connection: Connection, admission: Admission, runtime: Runtime) -> None:
        self._connection = connection
        self._runtime = runtime
        self._user = admission.user
        self._room_ids: dict[int | str, int] = {room.id: room.id for room in admission.rooms}
        for room in admission.rooms:
            if room.kind == "public" and room.name:
                self._room_ids[room.name] = room.id
        # Most sockets never need these.
        self._refused_at: deque[float] | None = None
        self._typed: dict[int, float] | None = None  # when it was passed on last, by room
        # Each is changed by one side alone: the first by the reader, the second by the journal.
        self._said = self._answered = 0
        self._news: Event | None = None  # of an answer, when the reader waits for one

    def receive(self, text: str | None) -> None:
        """Act on a message of the socket; None is a binary one. Never raises."""
        client_id = None
        try:
            if text is None:
                raise Invalid("Send text frames; there are no binary ones.")
            if not text.startswith("{"):
                self._say(LOBBY, text)
                return
            frame = frames.decode(text)
            if isinstance(frame, frames.Send):
                client_id = frame.client_id
                self._say(frame.room, frame.text, client_id, frame.reply_to)
            elif isinstance(frame, frames.Sync):
                self._sync(frame)
            elif isinstance(frame, frames.WriteTyping):
                self._type(frame)
            else:
                self._connection.push(frames.encode(frames.Pong(frame.client_id)))
        except frames.Refused as refused:
            self._refuse(refused.error, refused.client_id)
        except ApiError as error:
            self._refuse(error, client_id)
        except Exception as error:
            unavailable = from_database(error)
            if unavailable is None:
                log.exception("a frame failed")
            self._refuse(unavailable or Internal(), client_id)

    def _say(
        self,
        room: int | str,
        text: str,
        client_id: str | None = None,
        reply_to: int | None = None,
    ) -> None:
        messages.check_text(text, self._runtime.settings.text_max)
        post = Post(self._user, self._room_id(room), text, self._answer, client_id, reply_to)
        while self._said - self._answered >= WINDOW:
            self._news = news = Event()
            if self._said - self._answered >= WINDOW:  # still
                news.wait()
        self._runtime.journal.submit(post)
        self._said += 1

    def _answer(self, answers: list[Answer]) -> None:
        """The journal's answers to what was said, after the commit: one write for all acks."""
        self._answered += len(answers)
        if self._news:
            self._news.set()
        acks = []
        for post, outcome, _repeat in answers:
            if isinstance(outcome, ApiError):
                self._refuse(outcome, post.client_id)
            else:
                acks.append(frames.encode(frames.ack(outcome, post.client_id)))
        if acks:
            self._connection.push(b"".join(acks))

    def _sync(self, sync: frames.Sync) -> None:
        """Give a page of what changed, once the peer has taken what it was given before.

        It is subscribed already, so what is committed after this page was read is pushed.
        """
        room_id = self._room_id(sync.room)
        self._connection.flush()
        with self._runtime.app.app_context(), reading() as db:
            head = rooms.heads(db, [room_id])[room_id]
            if 0 <= head - sync.since <= RESET_AFTER:
                query = ChangesQuery(sync.since, CHANGES_MAX)
                found = messages.changes(db, Place(room_id, head), query)
                page = frames.SyncPage(found.messages, found.head, found.more, room=room_id)
            else:
                page = None
        self._connection.push(frames.encode(page or frames.Reset(room_id, head)))

    def _type(self, typing: frames.WriteTyping) -> None:
        """Pass it on, at most one every few seconds."""
        room_id = self._room_id(typing.room)
        moment = monotonic()
        if self._typed is None:
            self._typed = {}
        if moment - self._typed.get(room_id, -inf) >= TYPING_SECONDS:
            self._typed[room_id] = moment
            self._runtime.neighbours.tell_typing(room_id, self._user)

    def _room_id(self, room: int | str) -> int:
        room_id = self._room_ids.get(room)
        if room_id is None:
            raise NotFound("There is no such room, or you are not in it.")
        return room_id

    def _refuse(self, error: ApiError, client_id: str | None) -> None:
        answer = frames.Error(error.code, error.detail, client_id, error.retry_after)
        self._connection.push(frames.encode(answer))
        if error.retry_after is None and error.status < 500:
            self._count_refusal()

    def _count_refusal(self) -> None:
        """Close a client that keeps sending what it was told is wrong."""
        moment = monotonic()
        if self._refused_at is None:
            self._refused_at = deque(maxlen=REFUSED_MAX + 1)
        self._refused_at.append(moment)
        if len(self._refused_at) > REFUSED_MAX and moment - self._refused_at[0] < REFUSED_SECONDS:
            self._connection.close(Code.TOO_MANY_REFUSED, "too many frames were refused")
