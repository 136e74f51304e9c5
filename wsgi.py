"""What gunicorn and ``flask`` load."""

from bytechat import create_app

app = create_app()
