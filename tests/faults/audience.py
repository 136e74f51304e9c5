"""Many sockets in one thread: they only listen, and come back when they are told to."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from threading import Thread
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from bytechat.client import Hello, Message
from bytechat.client.shapes import Goodbye, decode
from tests.support.ledger import Ledger
from tests.support.people import Person, unused_name

from .crowd import LOBBY, Break, wait_until

#: Seconds until somebody who was not told when to come back tries it again.
AGAIN = 0.3


class Seat:
    """Where one listens, over one socket after the other: each is shown all from its hello on."""

    def __init__(self, person: Person, ledger: Ledger) -> None:
        self.connected = False
        self.position = -1
        self.breaks: list[Break] = []
        self._person = person
        self._ledger = ledger
        self._ended = 0.0
        self._end: Break | None = None

    async def listen(self) -> None:
        """For ever."""
        while True:
            wait = AGAIN
            # That is what comes of a server that is away, or goes.
            with suppress(OSError, WebSocketException, EOFError):
                async with connect(
                    self._person.server.ws_url,
                    additional_headers=self._person.headers,
                    compression=None,
                    max_queue=None,
                    ping_interval=None,
                    open_timeout=60,
                ) as socket:
                    wait = await self._read(socket)
            await asyncio.sleep(wait)

    async def _read(self, socket: ClientConnection) -> float:
        """Until the end of the socket; the seconds until the next one."""
        hello = decode(await socket.recv(decode=False))
        assert isinstance(hello, Hello)
        name = unused_name(f"a seat of {self._person.name}")
        self.position = hello.rooms[0].head
        self._ledger.begins(name, LOBBY, self.position)
        if self._end:
            self.breaks.append(self._end._replace(seconds=time.monotonic() - self._ended))
        self.connected = True
        wait = 0.0
        try:
            while True:
                frame = decode(await socket.recv(decode=False))
                if isinstance(frame, Message):
                    self._ledger.heard(name, frame)
                    self.position = frame.rev
                elif isinstance(frame, Goodbye):
                    wait = frame.retry_after
        except ConnectionClosed as closed:
            self.connected = False
            self._ledger.leaves(name, LOBBY)
            self._ended = time.monotonic()
            self._end = Break(closed.rcvd.code if closed.rcvd else None, wait, 0.0)
            return wait or AGAIN


class Audience:
    """``seats`` of these people, each of whom has as many as the others."""

    def __init__(self, people: list[Person], seats: int, ledger: Ledger) -> None:
        self.seats = [Seat(people[number % len(people)], ledger) for number in range(seats)]
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run)
        self._tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            self._loop.call_soon_threadsafe(task.cancel)
        self._thread.join()
        for task in self._tasks:
            if not task.cancelled():
                task.result()

    def hear(self, head: int) -> None:
        """Wait until all have heard the room up to there; the ledger finds who has not."""
        wait_until(lambda: all(seat.position >= head for seat in self.seats), seconds=15)

    def _run(self) -> None:
        self._tasks = [self._loop.create_task(seat.listen()) for seat in self.seats]
        self._loop.run_until_complete(asyncio.wait(self._tasks))
        self._loop.close()
