"""For those who run ByteChat and those who write clients: health, figures, the OpenAPI."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import gevent
import msgspec
from flask import Blueprint, Response
from flask.typing import ResponseReturnValue
from offapi import OpenAPITemplate
from sqlalchemy import text

from . import metrics
from .api import description, encode, endpoint
from .bus import BusDown
from .chat.runtime import current_runtime
from .errors import Problem, Unavailable, from_database
from .storage import transaction

blueprint = Blueprint("operations", __name__)

#: Seconds that each part has to answer when it is asked whether it is ready.
READY_SECONDS = 3.0

#: Swagger UI is inlined in its page, scripts and styles; it may load nothing but the description.
DOCS_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class Health(msgspec.Struct):
    status: str


@blueprint.get("/healthz")
@endpoint(public=True, answers={200: Health}, tag="operations")
def healthz() -> ResponseReturnValue:
    """The process lives. Touches nothing else."""
    return encode(Health("ok"))


@blueprint.get("/readyz")
@endpoint(public=True, answers={200: Health, 503: Problem}, tag="operations")
def readyz() -> ResponseReturnValue:
    """The database and the bus between workers answer; otherwise ``errors`` says which does not."""
    down = {}
    if not _answers(_ask_database):
        down["database"] = ["The database does not answer."]
    if not _answers(current_runtime().neighbours.bus.check):
        down["bus"] = ["The bus between workers does not answer."]
    if down:
        detail = " ".join(sentence for (sentence,) in down.values())
        raise Unavailable(detail, errors=down, retry_after=2)
    return encode(Health("ok"))


def _answers(check: Callable[[], None]) -> bool:
    """Whether a part answers in time: who asks must not wait for as long as a request may."""
    try:
        with gevent.Timeout(READY_SECONDS):
            check()
    except (gevent.Timeout, BusDown):
        return False
    except Exception as error:
        if not from_database(error):
            raise
        return False
    return True


def _ask_database() -> None:
    with transaction() as db:
        db.execute(text("SELECT 1"))


@blueprint.get("/metrics")
@endpoint(public=True, answers={200: None}, text=True, tag="operations")
def figures() -> ResponseReturnValue:
    """This worker's figures for Prometheus; how many sockets the others have, too."""
    return Response(metrics.exposition(current_runtime()), content_type=metrics.CONTENT_TYPE)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The description of the HTTP interface."""
    return Response(_openapi(), content_type="application/json")


@blueprint.get("/docs")
def docs() -> Response:
    """The description as a page, which loads nothing from elsewhere."""
    return Response(_docs(), headers={"Content-Security-Policy": DOCS_POLICY})


# Made once: each takes longer than others should wait.


@cache
def _openapi() -> bytes:
    return msgspec.json.encode(description())


@cache
def _docs() -> bytes:
    page: str = OpenAPITemplate.SWAGGER.value
    return page.format(spec_url="/openapi.json", spec_path="docs").encode()
