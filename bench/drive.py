"""Runs the load's process against a stand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .plan import Phase, Sender, Spec
from .stands import Layout, NotMeasured, Stand

Result = dict[str, Any]

#: How many clients read every frame, where most only count bytes.
SAMPLES = 5


def crowd(
    stand: Stand, layout: Layout, *, senders: int, samples: int = SAMPLES, stalled: int = 0
) -> Spec:
    """Everybody in one room: the first are senders, the next sampled, the others counted."""
    kinds = ["marked"] * senders + ["sampled"] * samples + ["stalled"] * stalled
    kinds += ["counted"] * (len(layout) - len(kinds))
    return Spec(
        port=stand.port,
        pids=stand.pids,
        clients=[stand.socket(n, kinds[n], rooms) for n, rooms in enumerate(layout)],
        senders=[
            Sender(number, layout[number][0], stand.template(layout[number][0]))
            for number in range(senders)
        ],
        greeting=stand.greeting,
    )


def run(
    spec: Spec, phases: list[Phase], on_begin: Mapping[str, Callable[[], None]] | None = None
) -> dict[str, Result]:
    """Results by the names of the phases, and ``connect``. Raises NotMeasured.

    ``on_begin`` has what to do beside the load when a phase begins.
    """
    spec.phases = phases
    running = subprocess.Popen(
        [sys.executable, "-m", "bench.load"],
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
        running.stdin.write(spec.to_json())
        running.stdin.close()
        for line in running.stdout:
            said = json.loads(line)
            if "begins" in said:
                (on_begin or {}).get(said["begins"], lambda: None)()
            else:
                results[said["phase"]] = said
        if running.wait():
            lines = running.stderr.read().strip().splitlines() or ["no reason given"]
            raise NotMeasured(f"the load ended: {lines[-1][:200]}")
    finally:
        running.kill()
        running.wait()
        running.stdout.close()
        running.stderr.close()

    return results
