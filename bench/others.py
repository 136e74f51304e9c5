"""The rivals: installed from pip and npm into folders of their own, and started one at a time."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .stands import Layout, NotMeasured, Stand, free_port, last_words, process

RIVALS = Path(__file__).parent / "rivals"
CACHE = Path(__file__).parents[1] / ".bench"

INSTALL_SECONDS = 300

GUNICORN = (
    "{python} -m gunicorn -k gevent -w 1 --worker-connections 20000 --backlog 4096"
    " --no-control-socket"
)


@dataclass(frozen=True)
class Rival:
    """A server without storage and accounts: it only broadcasts.

    ``command`` may have ``{python}``, ``{folder}`` and ``{port}`` in it. ``needs`` is a
    requirements file or a folder with a package.json, under ``rivals/``; without one this Python
    is enough.
    """

    name: str
    command: str
    needs: str = ""
    path: str = "/ws?rooms={rooms}"
    greeting: str = ""
    template: str = "{room} {text}"
    about: str = ""
    gathers: bool = False

    durable = one_room = False

    def install(self) -> Path:
        """The folder with what it needs, made on first use. Raises NotMeasured."""
        if not self.needs:
            return RIVALS
        source = RIVALS / self.needs
        manifest = source / "package.json" if source.is_dir() else source
        version = hashlib.sha256(manifest.read_bytes() + sys.version.encode()).hexdigest()[:12]
        folder = CACHE / f"{source.stem}-{version}"
        if not (folder / "installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            if source.is_dir():
                shutil.copy(manifest, folder)
                self._run(["npm", "install", "--no-audit", "--no-fund", "--silent"], folder)
            else:
                self._run([sys.executable, "-m", "venv", "venv"], folder)
                pip = ["venv/bin/python", "-m", "pip", "install", "--quiet"]
                self._run([*pip, "--disable-pip-version-check", "-r", str(source)], folder)
            (folder / "installed").touch()
        if source.is_dir():
            for script in source.glob("*.js"):
                shutil.copy(script, folder)
        return folder

    def _run(self, command: list[str], folder: Path) -> None:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                check=False,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotMeasured(f"could not be installed: {error}") from None
        if done.returncode:
            raise NotMeasured(f"could not be installed: {last_words(done.stderr)}")

    @contextmanager
    def stand(self, layout: Layout) -> Iterator[Stand]:
        """Start it for clients in these rooms. Raises NotMeasured."""
        folder = self.install()
        port = free_port()
        words = {
            "python": str(folder / "venv" / "bin" / "python") if self.needs else sys.executable,
            "folder": str(folder),
            "port": str(port),
        }
        command = [word.format(**words) for word in self.command.split()]
        probe = self.path.format(rooms="probe")
        with process(command, port, probe, RIVALS, dict(os.environ)) as pids:
            yield Stand(
                port,
                pids,
                handshake=lambda number: (self.path.format(rooms=",".join(layout[number])), ""),
                template=lambda room, text: self.template.format(room=room, text=text),
                greeting=self.greeting,
            )


ALL = [
    Rival(
        "Flask-SocketIO",
        f"{GUNICORN} -b 127.0.0.1:{{port}} flask_socketio_server:app",
        needs="flask_socketio.txt",
        path="/socket.io/?EIO=4&transport=websocket&rooms={rooms}",
        greeting="40",
        template='42["message","{room} {text}"]',
        about="gunicorn and gevent, as its documentation deploys it",
    ),
    Rival(
        "FastAPI",
        "{python} -m uvicorn fastapi_server:app --host 127.0.0.1 --port {port}"
        " --log-level warning --backlog 4096 --ws-ping-interval 3600",
        needs="fastapi.txt",
        about="uvicorn with uvloop, and the ConnectionManager of its documentation",
    ),
    Rival(
        "websockets",
        "{python} websockets_server.py {port}",
        needs="websockets.txt",
        about="its broadcast(), on uvloop",
    ),
    Rival(
        "Node ws",
        "node {folder}/server.js {port}",
        needs="node_ws",
        about="the broadcast of its README",
    ),
    Rival(
        "flask-sock",
        f"{GUNICORN} -b 127.0.0.1:{{port}} flask_sock_server:app",
        needs="flask_sock.txt",
        about="a plain loop over the clients, under gunicorn and gevent",
    ),
    Rival(
        "kernel floor",
        "{python} kernel_floor.py {port}",
        about="a bare loop of send(), which writes the same bytes; not a chat",
        gathers=True,
    ),
]
