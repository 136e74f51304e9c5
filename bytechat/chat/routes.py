"""Rooms and messages over HTTP."""

from __future__ import annotations

from flask import Blueprint
from flask.typing import ResponseReturnValue
from flask_jwt_extended import get_jwt_identity

from ..api import encode, endpoint
from ..errors import Problem
from ..storage import transaction
from . import messages, rooms
from .schemas import History, HistoryQuery

blueprint = Blueprint("chat", __name__)


@blueprint.get("/rooms/<room>/messages")
@endpoint(query=HistoryQuery, answers={200: History, 404: Problem}, tag="messages")
def history(room: str, query: HistoryQuery) -> ResponseReturnValue:
    """A page of a room's messages, ascending by seq; with no cursor the newest page.

    `room` is the id, or the name of a public room.
    """
    with transaction() as db:
        found = rooms.find(db, int(get_jwt_identity()), room)
        return encode(messages.history(db, found, query))
