"""Requests without an end, each over a new connection, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Self

import msgspec
import requests

from bytechat.client import Ack
from tests.support.ledger import Ledger
from tests.support.people import Person, unused_name

#: Seconds between two questions, and between two messages, which everybody in the lobby is told.
ASK_PAUSE = 0.02
SAY_PAUSE = 0.1


class Visitor:
    """Asks whether the server lives, and says something, again and again, while it lasts."""

    def __init__(self, person: Person, ledger: Ledger) -> None:
        self.person = person
        self.answered = 0
        #: What was not answered as it should be, with the seconds since the beginning.
        self.failures: list[str] = []
        self._ledger = ledger
        self._began = time.monotonic()
        self._over = Event()
        self._pool = ThreadPoolExecutor(2)
        self._visits: list[Future[None]] = []

    def __enter__(self) -> Self:
        self._visits = [
            self._pool.submit(self._repeat, self._ask, ASK_PAUSE),
            self._pool.submit(self._repeat, self._say, SAY_PAUSE),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for visit in self._visits:
            visit.result()

    def _repeat(self, visit: Callable[[], requests.Response], pause: float) -> None:
        while not self._over.wait(pause):
            seconds = time.monotonic() - self._began
            try:
                answer = visit()
            except requests.RequestException as error:
                self.failures.append(f"{seconds:.3f} s: {error!r}")
            else:
                self.answered += 1
                if not answer.ok:
                    self.failures.append(f"{seconds:.3f} s: {answer.status_code} {answer.text}")

    def _ask(self) -> requests.Response:
        return self.person.get("/healthz")

    def _say(self) -> requests.Response:
        client_id = unused_name("visit")
        text = f"{client_id}, in passing"
        self._ledger.sent(self.person.id, client_id, text)
        body = {"text": text, "client_id": client_id}
        answer = self.person.post("/rooms/lobby/messages", body)
        if answer.ok:
            self._ledger.acked(self.person.id, msgspec.convert(answer.json(), Ack))
        return answer
