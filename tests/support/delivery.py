"""What may happen in a World, and what must hold after each happening, as a machine of hypothesis.

Journals write and fail, hints between the workers come in any order or never, connections are cut
anywhere, programs read slowly or start again.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from .devices import Device
from .lines import Line
from .world import ALICE, BOB, ROOMS, Fault, Hint, World

#: Rounds in which everything must have come to rest.
ROUNDS = 200

#: More than a refused ``sync`` waits, in seconds.
A_WHILE = 20.0

WORKERS = st.integers(0, 1)
DEVICES = st.integers(0, 2)
A_FEW = st.integers(1, 4)
#: How far something said comes at once: to the client, the socket, the worker, the log, the hub.
FAR = st.integers(0, 4)
#: A position in a list of any length.
SOME = st.integers(0, 20)
FAULTS = st.lists(
    st.sampled_from([None, "before", "at the commit", "after the commit"]), max_size=3
)


class Words(NamedTuple):
    user: int
    room: int
    text: str
    client_id: str


class Delivery(RuleBasedStateMachine):
    """Rules that may do nothing do so silently: an example stays valid when it is made shorter."""

    #: The same for all examples: each begins by emptying it.
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.begin()
        self.workers = self.world.workers
        # Those of alice know the rooms from the beginning, bob's from when he comes first.
        since = dict.fromkeys(ROOMS, 0)
        self.devices = [Device(self.world, ALICE, since), Device(self.world, ALICE, since)]
        self.devices.append(Device(self.world, BOB, {}))
        #: Cut, and not noticed by their workers.
        self.ghosts: list[Line] = []
        #: What workers may tell each other.
        self.hints: list[Hint] = []
        self.words: list[Words] = []
        self.numbers = itertools.count(1)
        self.now = 0.0

    @initialize(homes=st.lists(st.sampled_from([0, 1, None]), min_size=3, max_size=3))
    def begin(self, homes: list[int | None]) -> None:
        """Some are connected already."""
        for device, home in zip(self.devices, homes, strict=True):
            if home is not None:
                device.connect(self.workers[home])
                device.exchange_all(self.now)

    # What people do.

    @rule(device=DEVICES, room=st.sampled_from(ROOMS), far=FAR)
    def say(self, device: int, room: int, far: int) -> None:
        user, number = self.devices[device].user, next(self.numbers)
        words = Words(user, room, f"text {number}", f"c{number}")
        self.words.append(words)
        self._say(self.devices[device], words, far)

    @precondition(lambda self: self.words)
    @rule(which=SOME, device=DEVICES, far=FAR)
    def say_again(self, which: int, device: int, far: int) -> None:
        """The same thing, under the same client_id: perhaps on another device of the author."""
        words = self.words[which % len(self.words)]
        if self.devices[device].user == words.user:
            self._say(self.devices[device], words, far)

    @rule(which=SOME, worker=WORKERS, room=st.sampled_from(ROOMS))
    def change(self, which: int, worker: int, room: int) -> None:
        """A message changes; a worker knows, as if its journal had done it."""
        rows = sorted(self.world.logs[room].rows.items())
        if rows:
            _, message = rows[which % len(rows)]
            frame = self.world.change(message, f"changed {next(self.numbers)}")
            self.workers[worker].held.append([frame])
            self.world.read()

    # What workers do.

    @rule(worker=WORKERS, faults=FAULTS, at_once=st.booleans())
    def write(self, worker: int, faults: list[Fault | None], at_once: bool) -> None:
        with self.world.faults.coming(*faults):
            self.workers[worker].write()
        self.world.read()
        if at_once:
            self.publish(worker)

    @rule(worker=WORKERS)
    def publish(self, worker: int) -> None:
        self.hints += self.workers[worker].publish()

    @rule(worker=WORKERS, faults=FAULTS)
    def give_out(self, worker: int, faults: list[Fault | None]) -> None:
        with self.world.faults.coming(*faults):
            self.workers[worker].give_out()

    @rule(worker=WORKERS, others=st.lists(WORKERS, max_size=2))
    def give_out_while_others_talk(self, worker: int, others: list[int]) -> None:
        self.workers[worker].meanwhile = [self.workers[other] for other in others]
        self.workers[worker].give_out()
        self.world.read()

    @rule(worker=WORKERS)
    def sweep(self, worker: int) -> None:
        self.workers[worker].sweep()

    @precondition(lambda self: self.hints)
    @rule(worker=WORKERS, which=SOME, whole=st.booleans(), again=st.booleans())
    def hint(self, worker: int, which: int, whole: bool, again: bool) -> None:
        """Any one, late or not, with its frame or as a number alone; it may come again."""
        hint = self.hints[which % len(self.hints)]
        if not again:
            self.hints.remove(hint)
        room, rev, _ = hint
        if whole:
            self.workers[worker].hub.publish([hint])
        else:
            self.workers[worker].hub.compare({room: rev})

    @precondition(lambda self: self.hints)
    @rule(which=SOME)
    def lose(self, which: int) -> None:
        del self.hints[which % len(self.hints) :]

    # What happens to connections.

    @rule(device=DEVICES, worker=WORKERS, stages=st.integers(0, 2))
    def connect(self, device: int, worker: int, stages: int) -> None:
        """To any worker; much may happen between the handshake, the joining and the hello."""
        if self.devices[device].line is None:
            self.devices[device].connect(self.workers[worker])
            for _ in range(stages):
                self.advance(device)

    @rule(device=DEVICES)
    def advance(self, device: int) -> None:
        if line := self.devices[device].line:
            line.advance()

    @rule(device=DEVICES)
    def cut(self, device: int) -> None:
        if self.devices[device].line:
            self.ghosts.append(self.devices[device].cut())

    @precondition(lambda self: self.ghosts)
    @rule(which=SOME, number=A_FEW, faults=FAULTS)
    def hear_a_ghost(self, which: int, number: int, faults: list[Fault | None]) -> None:
        with self.world.faults.coming(*faults):
            self.ghosts[which % len(self.ghosts)].read(number)

    @precondition(lambda self: self.ghosts)
    @rule(which=SOME)
    def notice(self, which: int) -> None:
        self.ghosts.pop(which % len(self.ghosts)).end()

    @rule(device=DEVICES)
    def send(self, device: int) -> None:
        self.devices[device].send(self.now)

    @rule(device=DEVICES, number=A_FEW, faults=FAULTS)
    def read(self, device: int, number: int, faults: list[Fault | None]) -> None:
        if line := self.devices[device].line:
            with self.world.faults.coming(*faults):
                line.read(number)

    @rule(device=DEVICES, number=A_FEW)
    def take(self, device: int, number: int) -> None:
        self.devices[device].take(self.now, number)

    @rule(device=DEVICES, number=A_FEW)
    def follow(self, device: int, number: int) -> None:
        for _ in range(number):
            self.devices[device].follow()

    @rule(device=DEVICES, times=st.integers(1, 5))
    def exchange(self, device: int, times: int) -> None:
        """All that is under way arrives, and is answered."""
        for _ in range(times):
            self.devices[device].exchange(self.now)

    @rule(device=DEVICES)
    def restart(self, device: int) -> None:
        self.cut(device)
        self.devices[device].restart()

    @rule(seconds=st.sampled_from([1.0, 3.0, A_WHILE]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    # What must hold.

    @invariant()
    def check(self) -> None:
        """Also of pushes: they are in order, and pass over only what has changed since."""
        for device in self.devices:
            device.check()
            for room, rev in device.skipped():
                message = self.world.versions[room, rev]
                assert self.world.logs[room].rows[message.id].rev > rev

    def teardown(self) -> None:
        """Everything comes to rest, with no other help than the sweep."""
        self.hints.clear()
        while self.ghosts:
            self.notice(0)
        for device in self.devices:
            if device.line is None:
                device.connect(self.workers[0])
        for _ in range(ROUNDS):
            if not self._settle():
                break
        else:
            raise AssertionError("it does not come to rest")
        self.check()
        for device in self.devices:
            self._check_end(device)

    def _check_end(self, device: Device) -> None:
        assert device.line
        assert len(device.talk.outbox) == 0
        for room, log in self.world.logs.items():
            assert device.positions[room] == log.head
            have = {m.id: m for m in device.cache.messages(room)}
            news = {m.id: m for m in log.rows.values() if m.rev > device.starts[room]}
            assert have == {m.id: log.rows[m.id] for m in have.values()} | news
            last = [rev for where, rev in device.line.wire.pushed if where == room][-1:]
            assert [device.line.heads[room], *last][-1] == log.head
        said = [
            (m.user.id, m.client_id) for log in self.world.logs.values() for m in log.rows.values()
        ]
        assert len(said) == len(set(said))

    def _settle(self) -> bool:
        """One round; whether anything has happened."""
        self.now += A_WHILE
        busy = False
        for worker in self.workers:
            busy |= worker.busy
            worker.write()
            while worker.held:
                worker.publish()
            worker.give_out()
        self.world.read()
        for device in self.devices:
            busy |= device.exchange(self.now)
        if not busy:
            for worker in self.workers:
                worker.sweep()
        return busy or any(worker.busy for worker in self.workers)

    def _say(self, device: Device, words: Words, far: int) -> None:
        said = device.say(words.room, words.text, words.client_id)
        if not said or far < 1:
            return
        if device.send(self.now) and far >= 2 and device.line:
            device.line.read(len(device.line.wire.up))
            for number in range(len(self.workers)) if far >= 3 else ():
                self.write(number, [], at_once=far >= 4)
