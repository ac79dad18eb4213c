"""Tables and figures of Li & Deng 2019."""

from . import baselines, cross_database, facs  # noqa: F401
