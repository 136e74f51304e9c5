"""People who talk and listen while something goes wrong, and note all of it in the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from random import Random
from threading import Event
from typing import NamedTuple, Self

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from bytechat.client import Client, Closed, Connected, Disconnected, Hello, Message, Reset, Sent
from bytechat.client.shapes import decode
from tests.support.ledger import Ledger
from tests.support.people import Person, unused_name

LOBBY = 1

#: Seconds for what must happen in the end.
SECONDS = 60

#: Seconds between two looks at whether it has.
LOOK = 0.02


def wait_until(what: Callable[[], object], seconds: float = SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK)
    return True


class Break(NamedTuple):
    """That a client was without a connection, and how long: from its end until the next hello.

    ``code`` and ``wait`` are those of the Disconnected that began it.
    """

    code: int | None
    wait: float
    seconds: float


class Talker:
    """Somebody with the Python client, which comes back and resumes.

    ``reader`` is the name in the ledger; with ``may_reset`` there may be one after the other. A
    person may be some of them.
    """

    def __init__(self, person: Person, url: str, ledger: Ledger, *, may_reset: bool) -> None:
        self.person = person
        self.reader = unused_name(person.name)
        self.resets = 0
        self.sent: list[Sent] = []
        self.heard = 0
        self.position = 0
        self.connected = False
        self.breaks: list[Break] = []
        self.client = Client(url, person.token, since={LOBBY: 0})
        self._ledger = ledger
        self._may_reset = may_reset
        ledger.begins(self.reader, LOBBY, 0)

    def talk(self, quiet: Event, hushed: Event, dice: Random, pause: float, longest: int) -> None:
        """Say something every ``pause`` seconds, of ``longest`` characters at most."""
        while not quiet.wait(dice.uniform(0, 2 * pause)):
            if hushed.is_set():
                continue
            client_id = unused_name("c")
            text = f"{self.person.name} says {client_id} \u2603" + "." * dice.randrange(longest)
            self._ledger.sent(self.person.id, client_id, text)
            with suppress(TimeoutError):  # too much is unacked, so this was not sent
                self.sent.append(self.client.send("lobby", text, client_id=client_id, timeout=0.5))

    def listen(self) -> None:
        """Until the client is closed; the ledger misses what a Reset that may not be leaves out."""
        ended, end = 0.0, None
        with suppress(Closed):
            while True:
                event = self.client.receive()
                if isinstance(event, Message):
                    self._ledger.heard(self.reader, event)
                    self.heard += 1
                    self.position = event.rev
                elif isinstance(event, Reset) and self._may_reset:
                    self._begin_anew(event.head)
                elif isinstance(event, Connected):
                    if end is not None:
                        seconds = time.monotonic() - ended
                        self.breaks.append(Break(end.code, end.wait, seconds))
                    self.connected = True
                elif isinstance(event, Disconnected) and self.connected:
                    self.connected = False
                    ended, end = time.monotonic(), event

    def _begin_anew(self, head: int) -> None:
        self._ledger.leaves(self.reader, LOBBY)
        self.reader = unused_name(self.person.name)
        self._ledger.begins(self.reader, LOBBY, head)
        self.position = head
        self.resets += 1

    def take_acks(self) -> None:
        for sent in self.sent:
            self._ledger.acked(self.person.id, sent.result(SECONDS))


class Onlooker:
    """Somebody with plain sockets, one after the other: each is shown all from its hello on."""

    def __init__(self, person: Person, url: str, ledger: Ledger) -> None:
        self.position = -1
        self._person = person
        self._url = url.replace("http", "ws", 1) + "/ws"
        self._ledger = ledger

    def listen(self, over: Event) -> None:
        """Until it is over, and then until the last socket has nothing more on its way."""
        while not over.is_set():
            # That is what comes of a connection which is cut anywhere.
            with suppress(OSError, EOFError, WebSocketException), self._connect() as socket:
                self._read(socket, over)
            over.wait(LOOK)

    def _connect(self) -> ClientConnection:
        return connect(
            self._url,
            additional_headers=self._person.headers,
            compression=None,
            max_queue=None,
            close_timeout=1,
        )

    def _read(self, socket: ClientConnection, over: Event) -> None:
        hello = decode(socket.recv(SECONDS, decode=False))
        assert isinstance(hello, Hello)
        name = unused_name(f"a socket of {self._person.name}")
        self.position = hello.rooms[0].head
        self._ledger.begins(name, LOBBY, self.position)
        pinged = False
        try:
            while True:
                with suppress(TimeoutError):
                    data = socket.recv(LOOK, decode=False)
                    frame = decode(data)
                    if isinstance(frame, Message):
                        self._ledger.heard(name, frame)
                        self.position = frame.rev
                    elif b'"pong"' in data:
                        return
                if over.is_set() and not pinged:
                    pinged = True
                    socket.send(json.dumps({"type": "ping"}))
        except Exception:
            self._ledger.leaves(name, LOBBY)
            raise


class Crowd:
    """Some talkers and an onlooker, from the first message of the lobby on.

    ``url`` is where they connect, each to their own server if it is not given. Together they say
    about ``rate`` messages a second: few enough that nobody is ever told ``reset``, if not
    ``may_reset``. Who is told so has all up to then, and all from then on.
    """

    def __init__(
        self,
        people: list[Person],
        ledger: Ledger,
        dice: Random,
        *,
        url: str = "",
        rate: float = 100,
        longest: int = 200,
        may_reset: bool = False,
    ) -> None:
        self._people = people
        self._ledger = ledger
        self._pause = len(people) / rate
        self._longest = longest
        self._may_reset = may_reset
        self._dice = [Random(dice.random()) for _ in people]
        self._quiet = Event()
        self._hushed = Event()
        self._over = Event()
        self._stack = ExitStack()
        self._pool = ThreadPoolExecutor(2 * len(people) + 1)
        self._talking: list[Future[None]] = []
        self._listening: list[Future[None]] = []
        self.talkers = [self._talker(person, url or person.server.url) for person in people]
        self._onlooker = Onlooker(people[0], url or people[0].server.url, ledger)

    def _talker(self, person: Person, url: str) -> Talker:
        talker = Talker(person, url, self._ledger, may_reset=self._may_reset)
        self._stack.enter_context(closing(talker.client))
        return talker

    def __enter__(self) -> Self:
        self._listening = [self._pool.submit(self._onlooker.listen, self._over)]
        for talker, dice in zip(self.talkers, self._dice, strict=True):
            arguments = (self._quiet, self._hushed, dice, self._pause, self._longest)
            self._talking.append(self._pool.submit(talker.talk, *arguments))
            self._listening.append(self._pool.submit(talker.listen))
        return self

    def hear(self, count: int) -> None:
        """Wait until each talker has heard so many more messages: there is traffic."""
        goals = [talker.heard + count for talker in self.talkers]
        for talker, goal in zip(self.talkers, goals, strict=True):
            enough = wait_until(lambda: talker.heard >= goal)  # noqa: B023 it is called here
            assert enough, f"{talker.person.name} has heard {talker.heard}, and wants {goal}"

    @property
    def breaks(self) -> list[Break]:
        """Of all talkers."""
        return [ended for talker in self.talkers for ended in talker.breaks]

    def gather(self, seconds: float = SECONDS) -> None:
        """Wait until each talker is connected."""
        there = wait_until(lambda: all(talker.connected for talker in self.talkers), seconds)
        assert there, f"{sum(not talker.connected for talker in self.talkers)} are not connected"

    @contextmanager
    def hushed(self) -> Iterator[None]:
        """While it lasts they only listen; what is on its way arrives before it begins."""
        self._hushed.set()
        for talker in self.talkers:
            assert wait_until(lambda: not talker.client.unacked)  # noqa: B023 it is called here
        try:
            yield
        finally:
            self._hushed.clear()

    def finish(self) -> None:
        """All is well again: say no more, wait for every ack, and hear the room to its end.

        Who does not hear all of it is found by the ledger.
        """
        self._quiet.set()
        for talking in self._talking:
            talking.result()
        for talker in self.talkers:
            talker.take_acks()
        head = self._people[0].history("limit=1")[-1]["rev"]
        listeners: list[Talker | Onlooker] = [*self.talkers, self._onlooker]
        wait_until(lambda: all(one.position >= head for one in listeners), seconds=15)
        self._over.set()
        self._listening[0].result()

    def __exit__(self, *_: object) -> None:
        self._quiet.set()
        self._over.set()
        self._stack.close()
        self._pool.shutdown()
        for ended in [*self._talking, *self._listening]:
            ended.result()
