"""Lines: a connection with its reader, and a peer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from bytechat.realtime.framing import text_frame

from ..support.pair import Line, MakeLine
from ..support.raw import TEXT


@pytest.fixture(params=["greenlets", "threads"])
def make_line(request: pytest.FixtureRequest) -> Iterator[MakeLine]:
    """Makes lines, with a socket as in gunicorn and as under `flask run`; takes limits."""
    with contextlib.ExitStack() as stack:

        def make(**limits: int) -> Line:
            made = Line(greenlets=request.param == "greenlets", **limits)
            stack.callback(made.hang_up)
            return made

        yield make


@pytest.fixture
def line(make_line: MakeLine) -> Line:
    return make_line(frame_max=100, outbox_max=100_000)


@pytest.fixture
def open_line(line: Line) -> Line:
    """A line on which the hello was said and the peer is being heard."""
    line.connection.open(text_frame(b"hello"))
    assert line.frame() == (TEXT, b"hello")
    line.serve()
    return line
