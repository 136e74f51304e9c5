"""Runs the load's process against a stand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .plan import Phase, Sender, Spec
from .stands import TEXT_SIZE, Layout, NotMeasured, Stand, last_words, text

Result = dict[str, Any]

#: How many clients read every frame, where most only count bytes.
SAMPLES = 5


@dataclass
class Cast:
    """Who does what: the kind of each client (see ``clients.KINDS``), and who speaks where."""

    kinds: list[str]
    #: A client's number, and one of its rooms.
    speakers: list[tuple[int, str]]


def crowd(layout: Layout, senders: int, *, stalled: int = 0) -> Cast:
    """Everybody in one room: the first speak; some are sampled, some stall, the rest are counted.

    Samples are spread evenly, as many a server serves its clients in the order of their coming.
    """
    others = len(layout) - senders
    kinds = ["marked"] * senders + ["counted"] * others
    for kind, number in (("stalled", stalled), ("sampled", SAMPLES)):
        for part in range(number):
            place = senders + others * (2 * part + 1) // (2 * number)
            kinds[kinds.index("counted", place)] = kind
    return Cast(kinds, [(number, layout[number][0]) for number in range(senders)])


def spec(stand: Stand, layout: Layout, cast: Cast, size: int = TEXT_SIZE) -> Spec:
    """The load on this stand, with texts of so many characters."""
    said = text(size)
    return Spec(
        ports=stand.ports,
        pids=stand.pids,
        clients=[stand.socket(n, cast.kinds[n], rooms) for n, rooms in enumerate(layout)],
        senders=[Sender(n, room, stand.template(room, said)) for n, room in cast.speakers],
        greeting=stand.greeting,
        engines=stand.engines,
    )


def run(
    load: Spec,
    phases: list[Phase],
    on_begin: Mapping[str, Callable[[], None]] | None = None,
    module: str = "bench.load",
) -> dict[str, Result]:
    """Results by the names of the phases, and ``connect``. Raises NotMeasured.

    ``on_begin`` has what to do beside the load when a phase begins; ``module`` is the load.
    """
    load.phases = phases
    running = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdin
    assert running.stdout
    assert running.stderr

    results: dict[str, Result] = {}
    try:
        running.stdin.write(load.to_json())
        running.stdin.close()
        for line in running.stdout:
            said = json.loads(line)
            if "begins" in said:
                (on_begin or {}).get(said["begins"], lambda: None)()
            else:
                results[said["phase"]] = said
        if running.wait():
            raise NotMeasured(f"the load ended: {last_words(running.stderr.read())}")
    finally:
        running.kill()
        running.wait()
        running.stdout.close()
        running.stderr.close()

    return results
