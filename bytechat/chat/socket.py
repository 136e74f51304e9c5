"""``GET /ws``: from the check of the handshake to the line in the log when it is over."""

from __future__ import annotations

import _thread
import logging
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent.socket
from flask import Response, g, request
from gevent.monkey import get_original, is_module_patched
from simple_websocket import Server
from wsproto.utilities import RemoteProtocolError

from ..auth import accounts
from ..errors import BadHandshake, from_database, response_to
from ..extensions import sock
from ..realtime.connection import Connection
from ..realtime.reader import Reader
from . import frames, handshake
from .handshake import Admission
from .peer import Peer
from .routes import blueprint
from .runtime import FLUSH_SECONDS, Runtime, current_runtime

log = logging.getLogger(__name__)

PROTOCOL = 1


class NoReader:
    """In place of simple-websocket's reader thread: our Connection reads the socket itself."""

    name = ""

    def __init__(self, target: Callable[[], None]) -> None:
        """Take what a Thread takes."""

    def start(self) -> None:
        """Start nothing."""


# The lock of a connection is held over a write that does not wait, so no greenlet ever meets it
# taken. gevent's own lock is Python, and would be a tenth of what a delivery costs.
_make_lock = get_original("_thread", "allocate_lock")

#: For flask-sock, of which we use the handshake.
SERVER_OPTIONS = {"subprotocols": ["bytechat.v1"], "thread_class": NoReader}


@blueprint.before_request
def check_handshake() -> None:
    """Refuse in plain HTTP what should not become a socket."""
    if request.endpoint == "chat.ws":
        runtime = current_runtime()
        runtime.take_seat()
        g.seated = True
        g.admission = handshake.check(runtime.settings, runtime.crowds)
        # simple-websocket accepts compression from whoever offers it; the contract has none, and a
        # frame is encoded once for all.
        request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)


@blueprint.teardown_request
def leave_seat(_error: BaseException | None) -> None:
    """A handshake has failed."""
    if g.pop("seated", False):
        current_runtime().leave_seat()


@blueprint.errorhandler(RemoteProtocolError)
def refuse_handshake(error: RemoteProtocolError) -> Response:
    """The headers were not even HTTP to wsproto."""
    return response_to(BadHandshake(f"{error}."))


@blueprint.errorhandler(ConnectionError)
def give_up(_error: ConnectionError) -> Response:
    """The peer was gone before the handshake was answered; nobody will read this."""
    return Response(status=400)


@sock.route("/ws", bp=blueprint)  # type: ignore[untyped-decorator]
def ws(server: Server) -> None:
    """Register who has come in, and talk until one side closes.

    Under gunicorn the socket is given to a greenlet of its own, and the request ends here: what
    gunicorn, Flask and the handshake keep for a request, and the depth of stack at which it runs,
    would stay as long as the socket. They are more than half of its memory.
    """
    admission: Admission = g.admission
    runtime = current_runtime()
    apart = is_module_patched("socket")
    connection = Connection(
        _take_over(server, apart=apart),
        owner=admission.user.id,
        token=admission.token,
        expires_at=admission.expires_at,
        outbox_max=runtime.settings.outbox_max,
        lock=_make_lock(),
    )
    runtime.start()
    g.seated = False  # the seat is the connection's from here on
    talk = (connection, admission, runtime, request.remote_addr, _sent_early(request.environ))
    if apart:
        _thread.start_new_thread(_talk, talk)
    else:
        # Flask's own server shuts the socket down when its handler returns.
        _talk(*talk)


def _take_over(server: Server, *, apart: bool) -> socket.socket:
    """The socket as one that nobody else closes.

    Detached, not duplicated: libev's epoll cannot forget a descriptor that was closed while another
    one for the same socket is open, and makes its whole set anew at each event of it.
    """
    server.connected = False  # its close() must find nothing to do
    if apart:
        return gevent.socket.socket(fileno=server.sock.detach())
    return server.sock.dup()  # type: ignore[no-any-return]


def _sent_early(environ: dict[str, Any]) -> bytes:
    """What came with the handshake, without waiting for its answer: gunicorn has read it."""
    unreader = getattr(getattr(environ["wsgi.input"], "reader", None), "unreader", None)
    return unreader.take_buffered() if unreader else b""


def _talk(
    connection: Connection,
    admission: Admission,
    runtime: Runtime,
    address: str | None,
    sent_early: bytes,
) -> None:
    """One socket, from its hello to the line in the log when it is over."""
    about: dict[str, Any] = {"user": admission.user.username, "address": address}
    presence = runtime.neighbours.presence
    heads = runtime.hub.join(connection, {room.id: room.head for room in admission.rooms})
    presence.arrive(admission.user, heads)
    opened_at = monotonic()
    try:
        log.info("socket opened", extra={**about, "sockets": len(runtime.hub)})
        runtime.welcome(connection, _hello(admission, heads, runtime))
        receive = Peer(connection, admission, runtime).receive
        Reader(connection, runtime.settings.frame_max).serve(receive, sent_early)
    except Exception:
        log.exception("a socket failed", extra=about)
    finally:
        runtime.hub.leave(connection, heads)
        presence.depart(admission.user)
        runtime.leave_seat()
        about["seconds"] = round(monotonic() - opened_at, 1)
        log.info("socket closed", extra={**about, "code": connection.close_code})
        if admission.token is None:
            _dismiss_guest(admission.user.id, runtime)


def _hello(admission: Admission, heads: dict[int, int], runtime: Runtime) -> frames.Hello:
    settings = runtime.settings
    for room in admission.rooms:
        room.head = heads[room.id]
    return frames.Hello(
        protocol=PROTOCOL,
        user=admission.user,
        session=admission.session,
        worker=runtime.worker,
        rooms=admission.rooms,
        online=runtime.neighbours.presence.online(heads),
        limits=frames.Limits(text=settings.text_max, rate=0),
        heartbeat=settings.ping_every,
    )


def _dismiss_guest(user_id: int, runtime: Runtime) -> None:
    if not runtime.journal.flush(FLUSH_SECONDS):
        return  # a last word may be waiting, which needs its author; the purge comes by later
    try:
        with runtime.app.app_context():
            accounts.dismiss_guest(user_id)
    except Exception as error:
        # The socket is closed already: there is nobody to tell.
        if not from_database(error):
            raise
        log.warning("a guest could not be dismissed", extra={"error": type(error).__name__})
