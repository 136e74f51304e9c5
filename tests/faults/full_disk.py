"""gunicorn.conf.py for a disk that fills up: SQLite gets the pages that the file PAGES_FILE says.

SQLite forgets its ``max_page_count`` with each connection, so the server's own must be told. This
asks the file at the start of each transaction. One page is always less than there are, so then the
database may not grow.
"""

from __future__ import annotations

import os
from pathlib import Path
from runpy import run_path
from typing import Any

_ours = run_path(str(Path(__file__).parents[2] / "gunicorn.conf.py"))
globals().update({name: value for name, value in _ours.items() if not name.startswith("__")})


def post_worker_init(worker: Any) -> None:
    # Not before the worker is patched.
    from sqlalchemy import event

    from bytechat.extensions import db

    pages = Path(os.environ["PAGES_FILE"])
    with worker.wsgi.app_context():
        engine = db.engine

    @event.listens_for(engine, "begin")
    def limit(connection: Any) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {int(pages.read_text())}")

    _ours["post_worker_init"](worker)
