"""Benchmarks are scripts beside each other; tests find them as the scripts find one another."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
