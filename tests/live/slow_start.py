"""gunicorn.conf.py for workers that take START_SECONDS to start, but for the first ones."""

from __future__ import annotations

import os
import time
from pathlib import Path
from runpy import run_path
from typing import Any

_ours = run_path(str(Path(__file__).parents[2] / "gunicorn.conf.py"))
globals().update({name: value for name, value in _ours.items() if not name.startswith("__")})


def post_worker_init(worker: Any) -> None:
    if worker.age > worker.cfg.workers:
        time.sleep(float(os.environ["START_SECONDS"]))
    _ours["post_worker_init"](worker)
