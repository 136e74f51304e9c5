"""How gunicorn serves ByteChat. tests/live/test_server.py says why each of these must stay."""

from __future__ import annotations

import resource
import threading
import time
from typing import Any

from gevent import GreenletExit

from bytechat import capacity, logs, serving
from bytechat.config import Settings

settings = Settings.from_environ()

wsgi_app = "wsgi:app"
worker_class = serving.Worker
workers = settings.web_concurrency
bind = (
    f"[{settings.host}]:{settings.port}"
    if ":" in settings.host
    else f"{settings.host}:{settings.port}"
)
reuse_port = False  # the master opens a listener for each worker, and keeps them: serving.py
backlog = 4096
worker_connections = settings.worker_connections
preload_app = False  # the worker patches the standard library before the application is imported
control_socket_disable = True

# A worker that restarts by itself would wait for its sockets to end, serving nobody meanwhile.
max_requests = 0

# Also the deadline for a request's head: with 0 there would be none. Not more than this, as a stop
# waits for idle connections.
keepalive = 2
timeout = 30
graceful_timeout = 20  # Heroku and Render kill after 30 s

#: Seconds that requests have to end in a worker that stops. gunicorn notices the stop within one
#: second, waits this long, and a second more, before it cuts off the rest: less than 5 s in all.
STOP_SECONDS = 1

# Who is a proxy is said once, in TRUSTED_PROXIES.
forwarded_allow_ips = ""

logconfig_dict = logs.config(settings.log_level)
accesslog = "-"
# Not %(r)s: the request line has the query, and that may have a token.
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(M)s ms'

#: Seconds that a new worker waits at most until it knows who is online elsewhere.
SWEEP_SECONDS = 2


def on_starting(server: Any) -> None:
    """Refuse what cannot work; see to enough file descriptors, if we may; open the port.

    gunicorn counts HTTP connections; open sockets are ours, and as many again.
    """
    if server.cfg.is_ssl:
        # Sockets are written to below gevent's and ssl's layers (realtime/connection.py).
        raise SystemExit("ByteChat leaves TLS to a proxy: start it without certfile and keyfile.")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * worker_connections + 1000
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft != resource.RLIM_INFINITY and soft < wanted:
        server.log.warning(
            "the system allows %d open files: set `ulimit -n %d`, or a smaller WORKER_CONNECTIONS",
            soft,
            wanted,
        )
    capacity.check(settings, server.log)
    serving.prepare(server)


pre_fork = serving.share_out
post_fork = serving.close_others
child_exit = serving.rest


def post_worker_init(worker: Any) -> None:
    """Watch for the stop: gunicorn itself would leave the sockets open until graceful_timeout."""
    # The master goes on waiting as set above, but here a slow request must not hold up a stop.
    worker.cfg.set("graceful_timeout", STOP_SECONDS)
    runtime = worker.wsgi.extensions["bytechat.runtime"]
    runtime.start()
    runtime.neighbours.wait_for_sweep(SWEEP_SECONDS)
    worker.relieve()
    threading.Thread(target=_drain_when_stopped, args=(worker,), daemon=True).start()
    if worker.age == 1:
        near = settings.host in ("127.0.0.1", "0.0.0.0", "::1", "::", "localhost")  # noqa: S104
        host = "localhost" if near else settings.host
        print(f"\nByteChat is ready: open http://{host}:{settings.port}\n", flush=True)


def _drain_when_stopped(worker: Any) -> None:
    while worker.alive:
        time.sleep(0.05)
        worker.leave_when_relieved()
    _drain(worker)


def worker_int(worker: Any) -> None:
    """Ctrl-C. The worker then ends as after SIGTERM, by itself.

    gunicorn would call sys.exit() in this greenlet 0.1 s from here, which leaves a traceback when
    the worker is faster than that.
    """
    _drain(worker)
    raise GreenletExit


def worker_exit(_server: Any, worker: Any) -> None:
    """Wait for the sockets, of which gunicorn knows nothing; leave one whole file of SQLite."""
    from bytechat import storage  # not before the worker is patched

    if worker.wsgi:  # it may have failed to load
        runtime = worker.wsgi.extensions["bytechat.runtime"]
        runtime.drain()
        runtime.wait_for_all(STOP_SECONDS)
        runtime.neighbours.bus.close()
        storage.close(worker.wsgi)


def _drain(worker: Any) -> None:
    worker.wsgi.extensions["bytechat.runtime"].drain()
