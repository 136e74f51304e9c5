"""gunicorn.conf.py for a disk that is full while there is a file at DISK_IS_FULL.

SQLite's ``max_page_count`` is forgotten with each connection, so the server's own must be told:
here at the start of each transaction. One page is less than there are, so then none may be added.
"""

from __future__ import annotations

import os
from pathlib import Path
from runpy import run_path
from typing import Any

#: SQLite's own limit (https://www.sqlite.org/limits.html).
ENDLESS = 4_294_967_294

_ours = run_path(str(Path(__file__).parents[2] / "gunicorn.conf.py"))
globals().update({name: value for name, value in _ours.items() if not name.startswith("__")})


def post_worker_init(worker: Any) -> None:
    # Not before the worker is patched.
    from sqlalchemy import event

    from bytechat.extensions import db

    full = Path(os.environ["DISK_IS_FULL"])
    with worker.wsgi.app_context():
        engine = db.engine

    @event.listens_for(engine, "begin")
    def limit(connection: Any) -> None:
        pages = 1 if full.exists() else ENDLESS
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    _ours["post_worker_init"](worker)
