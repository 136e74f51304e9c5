"""The bus on Redis or Valkey: pub/sub by topic, sharded on a cluster."""

from __future__ import annotations

import re
from functools import cached_property
from time import monotonic
from typing import Any

from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.retry import Retry

#: Far from any limit of the server; what is larger is better read from the database.
PAYLOAD_MAX = 262_144

#: Seconds to wait for a connection, and for an answer.
TIMEOUT_SECONDS = 2.0

#: Seconds that a new topic may wait to be followed, if nothing arrives on the line meanwhile.
HEAR_SECONDS = 0.05

#: Payloads that are taken at once, before others have their turn.
AT_ONCE = 100

#: Seconds that a line may be silent before it is asked whether it still stands; and then.
SILENT_SECONDS = 3.0

_CONFIRMED = {"subscribe", "ssubscribe"}
_MESSAGES = {"message", "smessage"}


class ValkeyEngine:
    """``url`` is redis://, rediss://, valkey:// or valkeys://; with ``+cluster`` it is a cluster's.

    ``prefix`` keeps installations apart that share a server: pub/sub knows no databases.
    """

    name = "valkey"
    payload_max = PAYLOAD_MAX
    alone = False

    def __init__(self, url: str, prefix: str) -> None:
        self._url = re.sub(r"^(?:redis|valkey)(s?)(?:\+cluster)?:", r"redis\1:", url)
        self._prefix = prefix
        self._sharded = "+cluster:" in url

    @cached_property
    def _client(self) -> Any:
        """Made on first use: a cluster's asks for its nodes at once, and may not be there yet."""
        kind: Any = RedisCluster if self._sharded else Redis
        return kind.from_url(
            self._url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            # A hint that comes late is worth nothing, and the bus comes back by itself.
            retry=Retry(NoBackoff(), 0),
        )

    def send(self, messages: list[tuple[str, bytes]]) -> None:
        client = self._client
        if self._sharded:
            for topic, payload in messages:
                client.spublish(self._prefix + topic, payload)
            return
        with client.pipeline(transaction=False) as pipeline:
            for topic, payload in messages:
                pipeline.publish(self._prefix + topic, payload)
            pipeline.execute()

    def subscribe(self) -> ValkeyLine:
        return ValkeyLine(self._client, self._prefix, sharded=self._sharded)

    def check(self) -> None:
        self._client.ping()

    def close(self) -> None:
        if "_client" in self.__dict__:
            self._client.close()


class ValkeyLine:
    """A connection that subscribes; on a cluster one for each node that has some of the topics."""

    def __init__(self, client: Any, prefix: str, *, sharded: bool) -> None:
        self._prefix = prefix
        self._sharded = sharded
        self._pubsub = client.pubsub()
        self._followed: frozenset[str] = frozenset()
        self._arrived: list[bytes] = []
        self._unconfirmed: set[bytes] = set()
        #: When each line was heard, and asked, the last time, by its node.
        self._heard_at: dict[str, float] = {}
        self._asked_at: dict[str, float] = {}

    def follow(self, topics: frozenset[str]) -> bool:
        pubsub = self._pubsub
        subscribe, unsubscribe = (
            (pubsub.ssubscribe, pubsub.sunsubscribe)
            if self._sharded
            else (pubsub.subscribe, pubsub.unsubscribe)
        )
        if gone := self._followed - topics:
            unsubscribe(*(self._prefix + topic for topic in gone))
        new = topics - self._followed
        if new:
            channels = [self._prefix + topic for topic in new]
            self._unconfirmed = {channel.encode() for channel in channels}
            subscribe(*channels)
        self._followed = topics
        deadline = monotonic() + TIMEOUT_SECONDS
        while self._unconfirmed:
            if monotonic() > deadline:
                raise TimeoutError("a subscription was not confirmed")
            self._read(HEAR_SECONDS)
        return bool(new)

    def hear(self) -> list[bytes]:
        while len(self._arrived) < AT_ONCE and self._read(0):
            pass
        if not self._arrived:
            self._read(HEAR_SECONDS)
        self._check()
        arrived, self._arrived = self._arrived, []
        return arrived

    def close(self) -> None:
        self._pubsub.close()

    def _check(self) -> None:
        """Ask a line that is silent whether it still stands, and give up if one does not say."""
        moment = monotonic()
        for node, line in self._lines().items():
            heard_at = self._heard_at.setdefault(node, moment)
            asked_at = self._asked_at.get(node, heard_at)
            if asked_at > heard_at:
                if moment - asked_at > TIMEOUT_SECONDS:
                    raise TimeoutError("the line is dead")
            elif moment - heard_at > SILENT_SECONDS:
                self._asked_at[node] = moment
                line.ping()

    def _lines(self) -> dict[str, Any]:
        """The open lines by their nodes' names; there is one, with no name, but on a cluster."""
        lines = self._pubsub.node_pubsub_mapping if self._sharded else {"": self._pubsub}
        return {node: line for node, line in lines.items() if line.connection}

    def _read(self, seconds: float) -> bool:
        """Take what has arrived on each line, waiting at most this long; whether there was any."""
        lines = self._lines()
        if len(lines) > 1:
            seconds /= 10 * len(lines)  # they are waited for one after the other
        some = False
        for node, line in lines.items():
            # Looked for first, and then read with time: there may be the half of a message, which a
            # read that must not wait would take for the end of the line.
            if line.connection.can_read(seconds):
                self._take(node)
                some = True
        return some

    def _take(self, node: str) -> None:
        if node:
            message = self._pubsub.get_sharded_message(
                timeout=TIMEOUT_SECONDS, target_node=self._pubsub.cluster.get_node(node_name=node)
            )
        else:
            message = self._pubsub.get_message(timeout=TIMEOUT_SECONDS)
        if message is None:
            return
        self._heard_at[node] = monotonic()
        if message["type"] in _MESSAGES:
            self._arrived.append(message["data"])
        elif message["type"] in _CONFIRMED:
            self._unconfirmed.discard(message["channel"])  # a cluster's client may repeat some
