"""Rooms and messages over HTTP."""

from __future__ import annotations

import msgspec
from flask import Blueprint
from flask.typing import ResponseReturnValue
from flask_jwt_extended import get_jwt_identity

from ..api import encode, endpoint
from ..auth import accounts
from ..auth.schemas import Account
from ..config import current_settings
from ..errors import ApiError, Problem, TokenRevoked, response_to
from ..storage import reading
from . import messages, rooms
from .runtime import current_runtime
from .schemas import Changes, ChangesQuery, History, HistoryQuery, Message, NewMessage

#: Seconds that a message waits for those before it, beside the database's own time.
ANSWER_SECONDS = 5.0

blueprint = Blueprint("chat", __name__)


@blueprint.get("/rooms/<room>/messages")
@endpoint(query=HistoryQuery, answers={200: History, 404: Problem}, tag="messages")
def history(room: str, query: HistoryQuery) -> ResponseReturnValue:
    """A page of a room's messages, ascending by seq; with no cursor the newest page.

    `room` is the id, or the name of a public room.
    """
    with reading() as db:
        found = rooms.find(db, int(get_jwt_identity()), room)
        return encode(messages.history(db, found, query))


@blueprint.get("/rooms/<room>/changes")
@endpoint(query=ChangesQuery, answers={200: Changes, 404: Problem}, tag="messages")
def changes(room: str, query: ChangesQuery) -> ResponseReturnValue:
    """What changed in a room after a rev, ascending by rev: new messages, and changed ones.

    `more` asks for the next page, after the last rev of this one.
    """
    with reading() as db:
        found = rooms.find(db, int(get_jwt_identity()), room)
        return encode(messages.changes(db, found, query))


@blueprint.post("/rooms/<room>/messages")
@endpoint(
    body=NewMessage,
    answers={201: Message, 200: Message, 404: Problem, 429: Problem},
    tag="messages",
)
def say(room: str, body: NewMessage) -> ResponseReturnValue:
    """Say something in a room.

    A `client_id` that was used before makes no second message: the answer is 200 with the first.
    """
    settings, runtime = current_settings(), current_runtime()
    user_id = int(get_jwt_identity())
    messages.check_text(body.text, settings.text_max)
    with reading() as db:
        room_id = rooms.find(db, user_id, room).id
    author = accounts.profile(user_id)
    if author is None:
        raise TokenRevoked("This account is no longer there.")
    runtime.start()
    answer = runtime.journal.write(
        Account(author.id, author.username),
        room_id,
        body.text,
        body.client_id,
        body.reply_to,
        seconds=settings.database_timeout + ANSWER_SECONDS,
    )
    if isinstance(answer.outcome, ApiError):
        return response_to(answer.outcome)
    message = Message(*msgspec.structs.astuple(answer.outcome))
    return encode(message), 200 if answer.repeat else 201
