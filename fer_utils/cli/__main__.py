"""``python -m fer_utils.cli``."""

from . import app

app()
