"""What gunicorn and ``flask`` load."""

from logging.config import dictConfig

from bytechat import create_app, logs
from bytechat.config import Settings

settings = Settings.from_environ()
dictConfig(logs.config(settings.log_level))

app = create_app(settings)
