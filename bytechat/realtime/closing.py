"""The close codes of PROTOCOL.md, by name (RFC 6455, section 7.4; 4000 and up are ours)."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Why a socket was closed."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    ABNORMAL = 1006  # never sent: the peer was gone without a close frame
    NOT_UTF8 = 1007
    TOO_BIG = 1009
    RESTART = 1012
    TOO_MANY_REFUSED = 4400
    TOKEN_ENDED = 4401
    ACCOUNT_DISABLED = 4403
    TOO_SLOW = 4408
