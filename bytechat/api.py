"""One decorator for HTTP endpoints: what checks the requests also describes them in the OpenAPI."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import gevent
import msgspec
from flask import Response, request
from flask_jwt_extended import verify_jwt_in_request
from gunicorn.http.errors import ParseException
from spectree import Response as Answers
from spectree import SecurityScheme, SpecTree
from spectree.model_adapter.msgspec_adapter import MsgspecModelAdapter
from spectree.models import InType, SecureType, SecuritySchemeData

from .errors import (
    PROBLEM_TYPE,
    Invalid,
    MalformedJson,
    NotJson,
    Problem,
    RequestTimedOut,
    TooLarge,
)

#: Seconds that a request's body may take to arrive: gunicorn has no deadline for it.
BODY_SECONDS = 10

#: Integers of the contract fit the database's BIGINT.
BIGINT_MAX = 2**63 - 1

spec = SpecTree(
    "flask",
    title="ByteChat",
    description="Accounts, rooms and messages over HTTP. Talking in real time is `GET /ws`.",
    version="1",
    mode="strict",
    annotations=False,
    model_adapter=MsgspecModelAdapter(),  # type: ignore[arg-type]
    validation_error_model=Problem,
    naming_strategy=lambda model: model.__name__,
    nested_naming_strategy=lambda _parent, child: child,
    security_schemes=[
        SecurityScheme(
            name="token", data=SecuritySchemeData(type=SecureType.HTTP, scheme="bearer")
        ),
        SecurityScheme(
            name="cookie",
            data=SecuritySchemeData(
                type=SecureType.API_KEY, name="bytechat_session", field_in=InType.COOKIE
            ),
        ),
    ],
)

#: The operations that answer in plain text, which spectree does not know.
_plain: set[str] = set()

View = Callable[..., Any]
S = TypeVar("S", bound=msgspec.Struct)


def endpoint(
    *,
    answers: dict[int, type | None],
    public: bool = False,
    body: type[msgspec.Struct] | None = None,
    query: type[msgspec.Struct] | None = None,
    text: bool = False,
    tag: str,
) -> Callable[[View], View]:
    """Describe and check an endpoint.

    The view gets the decoded ``body`` and ``query`` as keywords and returns a Struct, or
    ``(Struct, status)``. Unless it is ``public``, the caller must have a valid token; that is
    checked before anything that was sent is read. ``answers`` are the Structs by status; the
    errors that the check itself gives are added. With ``text`` an answer is plain text.
    """
    errors = [500]
    errors += [] if public else [401, 503]
    errors += [400, 408, 413, 415, 422, 503] if body else []
    errors += [422] if query else []
    described = {f"HTTP_{status}": model for status, model in answers.items()}
    described |= {f"HTTP_{status}": Problem for status in errors if status not in answers}

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(**arguments: Any) -> Any:
            if not public:
                verify_jwt_in_request()
            if body:
                arguments["body"] = _read_body(body)
            if query:
                arguments["query"] = _read_query(query)
            return view(**arguments)

        if text:
            _plain.add(view.__name__)
        documented: View = spec.validate(
            json=body,
            query=query,
            resp=Answers(**described),
            tags=[tag],
            security=[] if public else [{"token": []}, {"cookie": []}],
            validation_error_status=500,  # spectree adds one; ours are all described already
            skip_validation=True,  # spectree takes malformed JSON for {} and "1" for 1
            operation_id=view.__name__,
        )(checked)
        return documented

    return decorate


def description() -> dict[str, Any]:
    """The OpenAPI of all endpoints; spectree knows no type but JSON's, and errors have one."""
    openapi: dict[str, Any] = spec.spec
    for path in openapi["paths"].values():
        for operation in path.values():
            if operation["operationId"] in _plain:
                plain = {"text/plain": {"schema": {"type": "string"}}}
                operation["responses"]["200"]["content"] = plain
            for status, answer in operation["responses"].items():
                if status >= "400" and (content := answer["content"].pop("application/json", None)):
                    answer["content"][PROBLEM_TYPE] = content
    return openapi


def _read_body(model: type[S]) -> S:
    """The request's JSON. Raises MalformedJson, NotJson, Invalid, TooLarge, RequestTimedOut."""
    if not request.is_json:
        raise NotJson
    with gevent.Timeout(BODY_SECONDS, RequestTimedOut), _readable():
        data = request.get_data(cache=False)
        full = request.content_length is None and len(data) == request.max_content_length
        # Of a chunked body werkzeug takes what fits, and is silent about the rest.
        if full and request.environ["wsgi.input"].read(1):
            raise TooLarge
    try:
        return msgspec.json.decode(data, type=model)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedJson from None


def _read_query(model: type[S]) -> S:
    """The query string. Raises Invalid."""
    try:
        return msgspec.convert(request.args.to_dict(), model, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error) from None


@contextmanager
def _readable() -> Iterator[None]:
    """gunicorn's errors about a body's chunks, and about its sudden end, as ours."""
    try:
        yield
    except (ParseException, OSError):
        raise MalformedJson("The request's body is broken off, or its chunks are.") from None


def invalid(error: msgspec.ValidationError) -> Invalid:
    """msgspec's sentence about one field, as our error by field."""
    message, _, path = str(error).partition(" - at `$")
    if path:
        field = path.removesuffix("`").removeprefix(".")
    else:
        named = re.search(r"field `(.+)`", message)
        field = named.group(1) if named else ""
    return Invalid(f"{message}.", errors={field: [f"{message}."]} if field else None)


def encode(answer: msgspec.Struct) -> Response:
    """The Struct as a JSON answer."""
    return Response(msgspec.json.encode(answer), content_type="application/json")
