"""How the axes of a diagnosis are labelled."""

from __future__ import annotations

PLAIN = {"labelExpr": "datum.label ? format(datum.value, '~g') : ''"}
"""Six digits at most, with a power of ten only where a number is very large or small. The axis itself, given a format `g`, would
use as few digits as tell its ticks apart, which makes 20 a `2e+1`."""
