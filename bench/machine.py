"""What a run was made on: figures of one machine say little of another."""

from __future__ import annotations

import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil


def described() -> dict[str, str]:
    """Words about this machine and the versions on it."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": _said(["git", "rev-parse", "--short", "HEAD"]),
        "processor": f"{_processor()}, {psutil.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"Linux {platform.release()}",
        "Python": platform.python_version(),
        "Node": _said(["node", "--version"]).removeprefix("v"),
        "gevent": version("gevent"),
        "gunicorn": version("gunicorn"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _said(command: list[str]) -> str:
    if not shutil.which(command[0]):
        return "not there"
    done = subprocess.run(
        command, cwd=Path(__file__).parent, check=False, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"
