"""Tables and figures of Li & Deng 2019."""

from . import baselines  # noqa: F401
