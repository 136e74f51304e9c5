"""ByteChat: a messenger that anyone can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from .config import Settings

__version__ = "0.1.0"


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application; ``settings`` default to those of the environment.

    The imports stand in here and not above because gunicorn's master process reads
    ``bytechat.config``: what is imported there, before gevent has patched the standard library in
    the worker, keeps its unpatched locks and sockets for good (gunicorn#2177, gunicorn#2796).
    """
    from flask import Flask
    from werkzeug.middleware.proxy_fix import ProxyFix

    from . import auth, chat, cli, config, errors, extensions, operations, security, storage, web

    settings = settings or config.Settings.from_environ()
    app = Flask(__name__, static_folder=None)
    # No function here is a coroutine; to ask that of each is a twentieth of what a request costs.
    app.ensure_sync = lambda func: func  # type: ignore[method-assign]
    config.configure(app, settings)

    errors.init_app(app)
    storage.init_app(app, settings)
    extensions.jwt.init_app(app)
    extensions.sock.init_app(app)
    security.init_app(app)

    app.register_blueprint(operations.blueprint)
    auth.init_app(app)
    chat.init_app(app, settings)
    app.register_blueprint(web.blueprint)
    app.cli.add_command(cli.users)

    if hops := settings.trusted_proxies:
        # A forwarded address or scheme is believed only from as many proxies as were declared.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    return app
