"""A real gunicorn on a free port, from our gunicorn.conf.py, as `make run` starts it."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
            self._port: int = probe.getsockname()[1]
        self.database_url = database_url
        self.log = Path(tempfile.mkstemp(prefix="bytechat-log-")[1])
        self._command = command.split()
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def start(self) -> Self:
        environ = {
            **os.environ,
            "DATABASE_URL": self.database_url,
            "JWT_SECRET_KEY": SECRET,
            "BCRYPT_ROUNDS": "4",
            "HOST": "127.0.0.1",
            "PORT": str(self._port),
            "FLASK_RUN_PORT": str(self._port),
            **self._settings,
        }
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                # Again, if it has ended: while a server is away its port may be lent to a client.
                self._process = self._spawn(environ)
            try:
                # A session of its own, closed: an idle connection would be a part of the scene.
                if requests.get(
                    f"http://127.0.0.1:{self._port}/healthz", timeout=5, headers=CLOSE
                ).ok:
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

    def _processes(self) -> list[psutil.Process]:
        """The master and its workers."""
        master = psutil.Process(self.pid)
        return [master, *master.children()]

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
        for process in reversed(self._processes()):
            process.send_signal(signal.SIGINT)
        self._process.wait(STOP_SECONDS)
        return time.monotonic() - began

    def terminate_all(self) -> float:
        """Stop as Heroku does (SIGTERM to all processes); returns the seconds that it took."""
        assert self._process is not None
        began = time.monotonic()
        for process in reversed(self._processes()):
            process.terminate()
        self._process.wait(STOP_SECONDS)
        return time.monotonic() - began

    def hang_up(self) -> None:
        """Have new workers take the place of the old ones (SIGHUP to the master)."""
        psutil.Process(self.pid).send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """End all processes at once, as a power cut would (SIGKILL)."""
        assert self._process is not None
        for process in self._processes():
            process.send_signal(signal.SIGKILL)
        self._process.wait(STOP_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        # The next test need not wait for this one's goodbyes.
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
        _leaving.append(self)

    def forget(self) -> None:
        """Wait for the end, and remove the log."""
        if self._process is not None:
            self._process.wait(STOP_SECONDS)
        self.log.unlink()


class TwoServers(Server):
    """Two on one database, as on two machines: whoever asks is sent to one, then to the other."""

    def __init__(self, database_url: str, command: str = "gunicorn", **settings: str) -> None:
        super().__init__(database_url, command, **settings)
        self._other = Server(database_url, command, **settings)
        self._turn = itertools.cycle([self._port, self._other.port])

    @property
    def port(self) -> int:
        return next(self._turn)

    def start(self) -> Self:
        self._other.start()
        return super().start()

    @property
    def workers(self) -> list[psutil.Process]:
        return [*super().workers, *self._other.workers]

    def lines(self) -> str:
        return super().lines() + self._other.lines()

    def terminate(self) -> float:
        with ThreadPoolExecutor() as pool:
            other = pool.submit(self._other.terminate)
            return max(super().terminate(), other.result())

    def interrupt(self) -> float:
        with ThreadPoolExecutor() as pool:
            other = pool.submit(self._other.interrupt)
            return max(super().interrupt(), other.result())

    def kill(self) -> None:
        self._other.kill()
        super().kill()

    def __exit__(self, *error: object) -> None:
        self._other.__exit__(*error)
        super().__exit__(*error)


_leaving: list[Server] = []


def wait_for_all() -> None:
    """Wait for the servers whose tests are over."""
    while _leaving:
        _leaving.pop().forget()


CLOSE = {"Connection": "close"}
