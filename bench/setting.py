"""How large a run is and who takes part; and the loop over them that every scenario has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Self

from tests.support.databases import Databases

from .drive import Result
from .stands import Layout, NotMeasured, Stand
from .subjects import ByteChat, Subject
from .tables import Row

Results = dict[str, Result]


@dataclass(frozen=True)
class Sizes:
    """Numbers of people and messages, and seconds."""

    clients: int = 1000
    crowd: int = 5000
    history: int = 1_000_000
    #: Of a phase of ByteChat that is to last; others are shorter.
    seconds: float = 20
    #: Of the same for a rival, which is far behind by then.
    rival_seconds: float = 2
    #: Of steady, light load.
    gentle: float = 2.5
    #: Of open throttle.
    throttle: float = 5
    #: Of a login storm.
    storm: float = 14
    #: With stalled readers.
    stall: float = 8
    logins: int = 50
    stalled: int = 10
    pairs: int = 500
    rooms: int = 100
    #: People in a reconnect storm.
    storm_clients: int = 5000

    def quick(self) -> Self:
        """Enough to show that it works, and not much more."""
        return replace(
            self,
            clients=200,
            crowd=400,
            history=20_000,
            seconds=1,
            rival_seconds=0.5,
            gentle=1,
            throttle=1,
            storm=3,
            stall=2,
            logins=8,
            pairs=50,
            storm_clients=300,
        )


@dataclass
class Bench:
    sizes: Sizes
    #: ByteChat first, if it takes part.
    subjects: list[Subject]
    databases: Databases
    #: Kinds of databases for what differs by them.
    kinds: list[str]
    say: Callable[[str], None]

    def bytechat(self) -> list[ByteChat]:
        """ByteChat on each kind of database."""
        return [ByteChat(kind, self.databases) for kind in self.kinds]

    def measure(
        self,
        what: str,
        subjects: Iterable[Subject],
        layout: Layout,
        work: Callable[[Subject, Stand], Results],
    ) -> list[tuple[Subject, Results, str]]:
        """Put each under load, one at a time: (subject, results, why there are none)."""
        found: list[tuple[Subject, Results, str]] = []
        for subject in subjects:
            self.say(f"{what}: {subject.name}")
            try:
                with subject.stand(layout) as stand:
                    found.append((subject, work(subject, stand), ""))
            except NotMeasured as reason:
                found.append((subject, {}, str(reason)))
        return found


def row(subject: Subject, results: Results, phase: str, reason: str = "") -> Row:
    """A row of the phase's results, with a note on what they do not show."""
    result = results.get(phase)
    if result is None:
        return Row(subject.name, note=reason or "not measured")
    notes = [reason] if reason else []
    if not result["complete"]:
        share = result["deliveries"] / max(1, result["owed"])
        notes.append(f"behind: {share:.0%} there after {result['seconds']:.0f} s")
    if result["closed"]:
        notes.append(f"{result['closed']} sockets lost")
    if result["disorder"] or result["gaps"]:
        notes.append(f"{result['disorder'] + result['gaps']} out of order")
    if result["load_share"] > BUSY > result["cpu_share"]:
        notes.append("held up by the load")
    return Row(subject.name, result, "; ".join(notes))


#: The share of a core from which a process that has one is at its limit.
BUSY = 0.9
