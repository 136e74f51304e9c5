"""wsgi:app on a machine whose clock is CLOCK_AHEAD seconds ahead; may be negative.

Of time.time() before anything is imported, and afterwards of datetime.now() in the modules that ask
it: to be a subclass everywhere would make every check of a type fail.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timedelta, tzinfo

AHEAD = float(os.environ["CLOCK_AHEAD"])

_time = time.time
time.time = lambda: _time() + AHEAD

from wsgi import app  # noqa: E402 not before the clock is wrong

#: Who asks for the time by datetime.now(). The test sees that none is missing.
ASKERS = [
    "bytechat.models",
    "flask_jwt_extended.config",
    "flask_jwt_extended.tokens",
    "flask_jwt_extended.view_decorators",
    "jwt.api_jwt",
]


class Kind(type):
    """That of a class which has the instances of datetime itself."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, datetime)


class Ahead(datetime, metaclass=Kind):
    """datetime, whose now() is wrong; what it gives is a plain one."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(seconds=AHEAD)


for name in ASKERS:
    assert vars(sys.modules[name])["datetime"] is datetime
    vars(sys.modules[name])["datetime"] = Ahead

__all__ = ["app"]
