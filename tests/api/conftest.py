"""A tiny base, written once."""

from tests.tiny import base as base
from tests.tiny import model as model
