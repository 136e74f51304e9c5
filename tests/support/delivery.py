"""What may happen in a World, as rules of a machine that hypothesis drives.

Journals write and fail, hints between the workers come in any order or never, connections are cut
anywhere, programs read slowly or start again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
)

from bytechat.chat import hints

from .devices import Device
from .outcome import A_WHILE, Outcome
from .world import ROOMS, Fault, Worker

T = TypeVar("T")

WORKERS = st.integers(0, 1)
DEVICES = st.integers(0, 2)
A_FEW = st.integers(1, 4)
#: How far something said comes at once: to the client, the socket, the worker, the log, the hub.
FAR = st.integers(0, 4)
#: A position in a list of any length.
SOME = st.integers(0, 20)
#: Who says something, and where.
TALK = st.lists(st.tuples(DEVICES, st.sampled_from(ROOMS)), min_size=1, max_size=5)
#: Workers who write and publish while another one reads.
OTHERS: list[list[int]] = [[], [0], [1], [0, 1], [1, 0]]
FAULTS = st.lists(
    st.sampled_from([None, "before", "at the commit", "after the commit"]), max_size=3
)


class Words(NamedTuple):
    user: int
    room: int
    text: str
    client_id: str


class Delivery(Outcome):
    """Most happenings have a condition, so that examples are not full of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[Words] = []
        self.numbers = itertools.count(1)

    @initialize(
        homes=st.lists(st.sampled_from([0, 0, 1, 1, None]), min_size=3, max_size=3), talk=TALK
    )
    def begin(self, homes: list[int | None], talk: list[tuple[int, int]]) -> None:
        """Something was said before some of them came."""
        self.devices[0].connect(self.workers[0])
        self.devices[0].exchange_all(self.now)
        self.say([(0, room) for _, room in talk], far=4, faults=[])
        self.ghosts.append(self.devices[0].cut())
        for device, home in zip(self.devices, homes, strict=True):
            if home is not None:
                device.connect(self.workers[home])
                device.exchange_all(self.now)

    # What people do.

    @rule(talk=TALK, far=FAR, faults=FAULTS)
    def say(self, talk: list[tuple[int, int]], far: int, faults: list[Fault | None]) -> None:
        with self.world.faults.coming(*faults):
            for device, room in talk:
                number = next(self.numbers)
                words = Words(self.devices[device].user, room, f"text {number}", f"c{number}")
                self.words.append(words)
                self._say(self.devices[device], words, far)

    @precondition(lambda self: self.words)
    @rule(which=SOME, device=DEVICES, far=FAR)
    def say_again(self, which: int, device: int, far: int) -> None:
        """The same thing, under the same client_id: perhaps on another device of the author."""
        words = _one(self.words, which)
        if self.devices[device].user == words.user:
            self._say(self.devices[device], words, far)

    @precondition(lambda self: any(log.rows for log in self.world.logs.values()))
    @rule(some=st.lists(SOME, min_size=1, max_size=3), worker=WORKERS, at_once=st.booleans())
    def change(self, some: list[int], worker: int, at_once: bool) -> None:
        """Messages change; a worker knows, as if its journal had done it."""
        for which in some:
            rows = [row for log in self.world.logs.values() for _, row in sorted(log.rows.items())]
            frame = self.world.change(_one(rows, which), f"changed {next(self.numbers)}")
            self.workers[worker].held.append([frame])
            self.world.read()
            if at_once:
                self._publish(self.workers[worker])

    # What workers do.

    @precondition(lambda self: any(worker.posts for worker in self.workers))
    @rule(which=SOME, faults=FAULTS, at_once=st.booleans())
    def write(self, which: int, faults: list[Fault | None], at_once: bool) -> None:
        worker = _one([worker for worker in self.workers if worker.posts], which)
        with self.world.faults.coming(*faults):
            worker.write()
        self.world.read()
        if at_once:
            self._publish(worker)

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(which=SOME)
    def publish(self, which: int) -> None:
        self._publish(_one([worker for worker in self.workers if worker.held], which))

    @precondition(lambda self: any(worker.awake for worker in self.workers))
    @rule(which=SOME, faults=FAULTS, others=st.sampled_from(OTHERS))
    def give_out(self, which: int, faults: list[Fault | None], others: list[int]) -> None:
        """What is read meanwhile may fail, or be old before it is used: others talk."""
        worker = _one([worker for worker in self.workers if worker.awake], which)
        worker.meanwhile = [self.workers[other] for other in others]
        with self.world.faults.coming(*faults):
            worker.give_out()
        self.world.read()

    @rule(worker=WORKERS)
    def sweep(self, worker: int) -> None:
        self.workers[worker].sweep()

    @precondition(lambda self: self.hints)
    @rule(worker=WORKERS, which=SOME, whole=st.booleans(), again=st.booleans())
    def hint(self, worker: int, which: int, whole: bool, again: bool) -> None:
        """Any one, late or not, with its frame or as a number alone; it may come again."""
        hint = _one(self.hints, which)
        if not again:
            self.hints.remove(hint)
        if not whole:
            news = hints.decode(hint)
            assert isinstance(news, hints.News)
            hint = hints.encode(hints.News(news.worker, news.room, news.rev))
        self.workers[worker].hear(hint)

    @precondition(lambda self: self.hints)
    @rule(which=SOME)
    def lose(self, which: int) -> None:
        self.hints.remove(_one(self.hints, which))

    # What happens to connections.

    @precondition(lambda self: any(device.line is None for device in self.devices))
    @rule(which=SOME, worker=WORKERS, stages=st.integers(0, 2))
    def connect(self, which: int, worker: int, stages: int) -> None:
        """To any worker; much may happen between the handshake, the joining and the hello."""
        device = _one([device for device in self.devices if device.line is None], which)
        line = device.connect(self.workers[worker])
        for _ in range(stages):
            line.advance()

    @precondition(lambda self: any(line.peer is None for line in self.open_lines))
    @rule(which=SOME)
    def advance(self, which: int) -> None:
        _one([line for line in self.open_lines if line.peer is None], which).advance()

    @precondition(lambda self: self.open_lines)
    @rule(which=SOME, far=st.integers(0, 2), home=st.sampled_from([None, 0, 1]))
    def cut(self, which: int, far: int, home: int | None) -> None:
        """What was to be sent is not, or not read, or not answered; perhaps it is back at once."""
        device = _one([device for device in self.devices if device.line], which)
        if far >= 1:
            device.send(self.now)
        line = device.cut()
        if far >= 2:
            line.read(len(line.wire.up))
        self.ghosts.append(line)
        if home is not None:
            device.connect(self.workers[home])
            device.exchange(self.now)
            device.exchange(self.now)

    @precondition(lambda self: self.ghosts)
    @rule(which=SOME)
    def notice(self, which: int) -> None:
        ghost = _one(self.ghosts, which)
        self.ghosts.remove(ghost)
        ghost.end()

    @precondition(lambda self: any(device.has_to_send(self.now) for device in self.devices))
    @rule(which=SOME)
    def send(self, which: int) -> None:
        ready = [device for device in self.devices if device.has_to_send(self.now)]
        _one(ready, which).send(self.now)

    @precondition(lambda self: any(line.readable for line in self.open_lines + self.ghosts))
    @rule(which=SOME, number=A_FEW, faults=FAULTS)
    def read(self, which: int, number: int, faults: list[Fault | None]) -> None:
        """Also what had been sent before a cut that is not noticed."""
        readable = [line for line in self.open_lines + self.ghosts if line.readable]
        with self.world.faults.coming(*faults):
            _one(readable, which).read(number)

    @precondition(lambda self: any(line.wire.down for line in self.open_lines))
    @rule(which=SOME, number=A_FEW)
    def take(self, which: int, number: int) -> None:
        ready = [device for device in self.devices if device.line and device.line.wire.down]
        _one(ready, which).take(self.now, number)

    @precondition(lambda self: any(device.talk.events for device in self.devices))
    @rule(which=SOME, number=A_FEW)
    def follow(self, which: int, number: int) -> None:
        device = _one([device for device in self.devices if device.talk.events], which)
        for _ in range(number):
            device.follow()

    @precondition(lambda self: self.open_lines)
    @rule(which=SOME, times=A_FEW, faults=FAULTS)
    def exchange(self, which: int, times: int, faults: list[Fault | None]) -> None:
        """All that is under way arrives, and is answered."""
        device = _one([device for device in self.devices if device.line], which)
        with self.world.faults.coming(*faults):
            for _ in range(times):
                device.exchange(self.now)

    @rule(device=DEVICES)
    def restart(self, device: int) -> None:
        if self.devices[device].line:
            self.ghosts.append(self.devices[device].cut())
        self.devices[device].restart()

    @rule()
    def flow(self) -> None:
        """Everything goes on, as on a good day."""
        for worker in self.workers:
            worker.write()
            self._publish(worker)
            worker.give_out()
        self.world.read()
        for device in self.devices:
            device.exchange(self.now)

    @rule(seconds=st.sampled_from([1.0, 3.0, A_WHILE]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def _say(self, device: Device, words: Words, far: int) -> None:
        said = device.say(words.room, words.text, words.client_id)
        if not said or far < 1 or not device.send(self.now):
            return
        if far >= 2 and device.line:
            device.line.read(len(device.line.wire.up))
        for worker in self.workers if far >= 3 else ():
            worker.write()
            self.world.read()
            if far >= 4:
                self._publish(worker)

    def _publish(self, worker: Worker) -> None:
        self.hints += worker.publish()


def _one(things: Sequence[T], which: int) -> T:
    return things[which % len(things)]
