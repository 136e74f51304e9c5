"""What must hold in a World: after each happening, and when everything has come to rest."""

from __future__ import annotations

from hypothesis.stateful import RuleBasedStateMachine, invariant

from .devices import Device
from .lines import Line
from .world import ALICE, BOB, ROOMS, World

#: Rounds in which everything must have come to rest.
ROUNDS = 200

#: More than a refused ``sync`` waits, in seconds.
A_WHILE = 20.0


class Outcome(RuleBasedStateMachine):
    """A World and its people; what happens to them is another class's affair."""

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
        self.hints: list[bytes] = []
        self.now = 0.0

    @property
    def open_lines(self) -> list[Line]:
        return [device.line for device in self.devices if device.line]

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
        for ghost in self.ghosts:
            ghost.end()
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
