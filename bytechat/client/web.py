"""The calls over HTTP that a client needs beside its socket."""

from __future__ import annotations

import json
import ssl
import urllib.request
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from .errors import Refused, Unreachable
from .shapes import Page, Problem, User

#: Seconds for a connection, and for each read of the answer. Hashing a password takes its time.
TIMEOUT = 20.0

S = TypeVar("S", bound=msgspec.Struct)


class LoggedIn(msgspec.Struct):
    token: str
    user: User
    #: Seconds that the token works from now.
    expires_in: int = 0

    def __repr__(self) -> str:
        return f"LoggedIn(user={self.user})"


class Web:
    """A server, by its address: ``https://chat.example.org``. Raises ValueError for a bad one."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        scheme = {"http": "http", "https": "https", "ws": "http", "wss": "https"}.get(parts.scheme)
        if scheme is None or not parts.hostname:
            raise ValueError(f"An address begins with http:// or https://, and names a host: {url}")
        if parts.username is not None or parts.query or parts.fragment:
            # Addresses are shown and logged, tokens and passwords never.
            raise ValueError("An address has no user name, no password and no query.")
        self.url = f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.ws_url = self.url.replace("http", "ws", 1) + "/ws"
        self._context = context

    def register(self, username: str, password: str) -> User:
        body = {"username": username, "password": password}
        return self._call("POST", "/register", User, body=body)

    def login(self, username: str, password: str) -> LoggedIn:
        body = {"username": username, "password": password}
        return self._call("POST", "/login", LoggedIn, body=body)

    def history(self, token: str, room: int | str, **query: int) -> Page:
        path = f"/rooms/{quote(str(room), safe='')}/messages"
        return self._call("GET", f"{path}?{urlencode(query)}", Page, token=token)

    def _call(
        self,
        method: str,
        path: str,
        shape: type[S],
        *,
        token: str | None = None,
        body: dict[str, str] | None = None,
    ) -> S:
        """Raises Refused, Unreachable."""
        headers = {"Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        manager = self._manager()
        try:
            # A redirect is not followed: it could take the password, or the token, elsewhere.
            answer = manager.request(
                method,
                self.url + path,
                body=None if body is None else json.dumps(body),
                headers=headers,
                redirect=False,
                retries=False,
                timeout=TIMEOUT,
            )
        except HTTPError as error:
            raise Unreachable(f"{self.url} does not answer: {error}") from None
        finally:
            # Its clear() leaves the connection open until the answer is garbage.
            manager.connection_from_url(self.url).close()
        if answer.status >= 300:
            raise _refused(answer)
        try:
            return msgspec.json.decode(answer.data, type=shape)
        except msgspec.DecodeError:
            raise Unreachable(f"{self.url} answers, but not as ByteChat does.") from None

    def _manager(self) -> urllib3.PoolManager:
        """For one call, with the proxy that the environment names, as the socket has it."""
        parts = urlsplit(self.url)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
            return urllib3.ProxyManager(proxy, ssl_context=self._context)
        return urllib3.PoolManager(ssl_context=self._context)


def _refused(answer: urllib3.BaseHTTPResponse) -> Refused:
    try:
        problem = msgspec.json.decode(answer.data, type=Problem)
    except msgspec.DecodeError:
        problem = Problem()
    seconds = answer.headers.get("Retry-After", "")
    where = f" It points to {answer.headers['Location']}." if "Location" in answer.headers else ""
    return Refused(
        problem.code or f"http_{answer.status}",
        (problem.detail or f"The server answered with HTTP {answer.status}.") + where,
        status=answer.status,
        retry_after=float(seconds) if seconds.isascii() and seconds.isdigit() else None,
    )
