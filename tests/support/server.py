"""A real gunicorn on a free port, from our gunicorn.conf.py, as `make run` starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import requests

from .databases import ROOT, SECRET

#: A start takes two seconds of CPU while coverage looks on, and others may want that CPU too.
START_SECONDS = 60
STOP_SECONDS = 30


class Server:
    """One gunicorn. ``settings`` are environment variables; its log is at ``log``."""

    def __init__(self, database_url: str, command: str = "gunicorn", **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}/ws"
        self.database_url = database_url
        self.log = Path(tempfile.mkstemp(prefix="bytechat-log-")[1])
        self._command = command.split()
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        environ = {
            **os.environ,
            "DATABASE_URL": self.database_url,
            "JWT_SECRET_KEY": SECRET,
            "BCRYPT_ROUNDS": "4",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "FLASK_RUN_PORT": str(self.port),
            **self._settings,
        }
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                # Again, if it has ended: while a server is away its port may be lent to a client.
                self._process = self._spawn(environ)
            try:
                # A session of its own, closed: an idle connection would be a part of the scene.
                if requests.get(f"{self.url}/healthz", timeout=5, headers=CLOSE).ok:
                    return self
            except requests.RequestException:
                time.sleep(0.05)
        if self._process is not None and self._process.poll() is None:
            self.kill()
        raise AssertionError(f"the server did not start:\n{self.lines()}")

    def _spawn(self, environ: dict[str, str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *self._command],
                cwd=ROOT,
                env=environ,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """The master's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes."""
        return psutil.Process(self.pid).children()

    def lines(self) -> str:
        """The log so far."""
        return self.log.read_text()

    def terminate(self) -> float:
        """Stop as a deployment does (SIGTERM to the master); returns the seconds that it took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.terminate()
        self._process.wait(STOP_SECONDS)
        return time.monotonic() - began

    def interrupt(self) -> float:
        """Stop as Ctrl-C does, which reaches all processes; returns the seconds that it took."""
        assert self._process is not None
        began = time.monotonic()
        for process in [*self.workers, psutil.Process(self.pid)]:
            process.send_signal(signal.SIGINT)
        self._process.wait(STOP_SECONDS)
        return time.monotonic() - began

    def kill(self) -> None:
        """End all processes at once, as a power cut would (SIGKILL)."""
        assert self._process is not None
        for process in [psutil.Process(self.pid), *self.workers]:
            process.send_signal(signal.SIGKILL)
        self._process.wait(STOP_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The next test need not wait for this one's goodbyes.
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
        _leaving.append(self)

    def forget(self) -> None:
        """Wait for the end, and remove the log."""
        if self._process is not None:
            self._process.wait(STOP_SECONDS)
        self.log.unlink()


_leaving: list[Server] = []


def wait_for_all() -> None:
    """Wait for the servers whose tests are over."""
    while _leaving:
        _leaving.pop().forget()


CLOSE = {"Connection": "close"}
