"""One phase of a load: sending, waiting for what is owed, and what came of it."""

from __future__ import annotations

import resource
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from .clients import Client, Counted, Marked, Sampled
from .plan import Phase

if TYPE_CHECKING:
    from .load import Load

#: Messages that one socket sends at once at open throttle.
BURST = 64


class Run:
    """One phase, while it runs."""

    def __init__(self, load: Load, phase: Phase, stalled: list[Sampled]) -> None:
        self._load = load
        self._phase = phase
        present = [client for client in load.clients if client not in stalled and not client.closed]
        self._present = present
        for client in load.clients:
            client.reset()
        self._samples = [client for client in present if isinstance(client, Sampled)]
        self._counted: list[Counted] = [c for c in present if isinstance(c, Counted)]
        self._marked = [client for client in present if isinstance(client, Marked)]
        self._speakers: list[Marked] = []
        for sender in load.spec.senders:
            speaker = load.clients[sender.client]
            assert isinstance(speaker, Marked)
            self._speakers.append(speaker)
        self._sent: Counter[str] = Counter()  # messages by room
        self._total = 0
        self._turn = 0
        self._late = 0.0

    def go(self) -> None:
        """Send for so many seconds; then wait until all is there, or for ``patience``."""
        load, phase = self._load, self._phase
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._own = -usage.ru_utime - usage.ru_stime
        cpu_before, engines_before = load.cpu_each(), load.engines_cpu()
        self._began = now = time.monotonic()
        end = now + phase.seconds
        send = self._keep_window if phase.window else self._keep_rate
        while (now := time.monotonic()) < end:
            send(now - self._began)
            load.read(0.001)
        self._acks_in_time = self._acks()
        self._last = now
        asked = 0.0
        while now < end + phase.patience:
            if load.read(0.005):
                self._last = time.monotonic()
            now = time.monotonic()
            if now - asked > 0.02:
                asked = now
                for speaker in self._speakers:
                    speaker.flush()
                if self._complete():
                    break
        self._cpu_each = [
            after - before for after, before in zip(load.cpu_each(), cpu_before, strict=True)
        ]
        self._engines = {
            name: after - engines_before[name] for name, after in load.engines_cpu().items()
        }
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._own += usage.ru_utime + usage.ru_stime
        self._ended = max(self._last, end)

    def _keep_rate(self, elapsed: float) -> None:
        due = int(elapsed * self._phase.rate) + 1
        while self._total < due and self._say(1):
            pass

    def _keep_window(self, _elapsed: float) -> None:
        """At open throttle: no speaker is owed more than ``window`` messages of its rooms."""
        for _ in self._speakers:
            speaker = self._speakers[self._turn % len(self._speakers)]
            room = self._phase.window - (self._owed(speaker) - speaker.marks)
            if room <= 0 or not self._say(min(BURST, room)):
                self._turn += 1

    def _say(self, count: int) -> bool:
        """Let the next sender say so many messages; False if its socket is full."""
        sender = self._turn % len(self._speakers)
        frames = b"".join([self._load.frame(sender) for _ in range(count)])
        if not self._speakers[sender].say(frames):
            return False
        self._turn += 1
        self._total += count
        self._sent[self._load.spec.senders[sender].room] += count
        return True

    def _owed(self, client: Client) -> int:
        return sum(self._sent[room] for room in client.rooms)

    def _complete(self) -> bool:
        """Whether everybody has been given every message: byte for byte what the samples were."""
        if any(client.closed or client.marks != self._owed(client) for client in self._marked):
            return False
        # A sender's stream has its acks too; a sample that does not send has the room's alone.
        octets = [client.octets for client in self._silent_samples()]
        octets += [client.octets for client in self._counted]
        return not self._counted or len(set(octets)) == 1

    def _silent_samples(self) -> list[Sampled]:
        return [client for client in self._samples if client not in self._speakers]

    def _deliveries(self) -> float:
        """Messages that have arrived, those at the counted by their bytes."""
        total = float(sum(client.marks for client in self._marked))
        if self._counted and (silent := self._silent_samples()) and silent[0].octets:
            size = silent[0].octets / max(1, silent[0].marks)
            total += sum(client.octets for client in self._counted) / size
        return total

    def _acks(self) -> int:
        return sum(client.acks for client in self._marked)

    def result(self) -> dict[str, Any]:
        latencies = [ms for client in self._samples for ms in client.latencies]
        acks = [ms for client in self._samples for ms in client.ack_latencies]
        owed = sum(self._owed(client) for client in self._present)
        deliveries = self._deliveries()
        complete = self._complete()

        def us(cpu: float) -> float | None:
            """Microseconds for each message that was sent."""
            return cpu * 1e6 / self._total if self._total else None

        cpu = sum(self._cpu_each)
        seconds = self._ended - self._began
        return {
            "phase": self._phase.name,
            "clients": len(self._present),
            "sent": self._total,
            "owed": owed,
            "deliveries": owed if complete else round(deliveries),
            "complete": complete,
            "seconds": seconds,
            "deliveries_per_s": deliveries / seconds,
            "sent_per_s": self._total / self._phase.seconds,
            "p50_ms": quantile(latencies, 0.5),
            "p99_ms": quantile(latencies, 0.99),
            "max_ms": quantile(latencies, 1),
            "acks": self._acks(),
            "acks_per_s": self._acks_in_time / self._phase.seconds,
            "ack_p50_ms": quantile(acks, 0.5),
            "ack_p99_ms": quantile(acks, 0.99),
            "disorder": sum(client.disorder for client in self._samples),
            "gaps": sum(client.gaps for client in self._samples),
            "closed": sum(client.closed for client in self._present),
            "cpu_us_each": cpu * 1e6 / deliveries if deliveries else None,
            "cpu_share": cpu / seconds,
            "cpu_us_by_worker": [us(seconds_of) for seconds_of in self._cpu_each],
            "cpu_us_by_engine": {name: us(took) for name, took in self._engines.items()},
            "load_share": self._own / seconds,
        }


def quantile(values: list[float], share: float) -> float | None:
    """The value below which this share of them is; None of none."""
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
