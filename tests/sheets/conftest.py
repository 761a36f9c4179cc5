"""A tiny base, and LoRAs for it."""

from __future__ import annotations

from tests.generation.test_record import write_lora as write_lora
from tests.tiny import base as base
from tests.tiny import model as model
