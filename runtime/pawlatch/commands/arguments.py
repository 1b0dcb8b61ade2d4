"""Types of command line arguments: what is refused before any work begins."""

from __future__ import annotations

import argparse
import math


def positive(text: str) -> float:
    """A number of seconds: finite and above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def whole(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text}")
    return value
