"""95 % intervals for the difference of two scores. Formulas, and no library: the end of a sweep does not wait for SciPy.

For accuracies over the same examples Tango's score interval, since it is never empty or outside [-1, 1], holds its 95 % also
where few examples tell the two apart, and excludes 0 exactly where McNemar's test does; a bootstrap is too narrow there. For
accuracies of which only the counts are known Newcombe's, which is wider: it does not know that the examples are the same. For
means Student's t.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

Z = 1.959963984540054
"""The normal distribution's quantile at 97.5 %."""


def tango(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """The difference (first - second) of two accuracies over the same `n` examples.

    Args:
        only_first, only_second: examples that only the one or only the other has right.

    Source: Tango 1998, Statistics in Medicine 17, 891-908.
    """
    difference = (only_first - only_second) / n

    def score(delta: float) -> float:
        a = 2 * n
        b = -only_first - only_second + (2 * n - only_first + only_second) * delta
        c = -only_second * delta * (1 - delta)
        second = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = n * (2 * second + delta * (1 - delta))
        distance = only_first - only_second - n * delta
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    return _root(score, Z, -1.0, difference), _root(score, -Z, difference, 1.0)


def _root(score: Callable[[float], float], at: float, low: float, high: float) -> float:
    """Where a falling function passes `at`."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) > at else (low, middle)
    return (low + high) / 2


def mcnemar_tells(only_first: int, only_second: int) -> bool:
    """Whether 0 is outside `tango`."""
    return (only_first - only_second) ** 2 > Z * Z * (only_first + only_second)


def newcombe(first: int, second: int, n: int, m: int) -> tuple[float, float]:
    """The difference of the accuracies first / n and second / m.

    Source: Newcombe 1998, Statistics in Medicine 17, 873-890, method 10.
    """
    (low_1, high_1), (low_2, high_2) = wilson(first, n), wilson(second, m)
    p, q = first / n, second / m
    below, above = math.hypot(p - low_1, high_2 - q), math.hypot(high_1 - p, q - low_2)
    return p - q - below, p - q + above


def wilson(count: float, n: int) -> tuple[float, float]:
    """The share of which `count` of `n` were seen."""
    middle = (count + Z * Z / 2) / (n + Z * Z)
    half = Z / (n + Z * Z) * math.sqrt(count * (n - count) / n + Z * Z / 4)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """The difference of two means; a sample of one is taken to spread as the other does.

    Args:
        first, second: samples, at least one of them of two values or more.
    """
    difference = statistics.fmean(first) - statistics.fmean(second)
    if min(len(first), len(second)) < 2:
        several = max(first, second, key=len)
        half = t_quantile(len(several) - 1) * statistics.stdev(several) * math.sqrt(1 / len(first) + 1 / len(second))
        return difference - half, difference + half
    a, b = statistics.variance(first) / len(first), statistics.variance(second) / len(second)
    if a + b == 0:
        return difference, difference
    degrees = (a + b) ** 2 / (a * a / (len(first) - 1) + b * b / (len(second) - 1))
    half = t_quantile(degrees) * math.sqrt(a + b)
    return difference - half, difference + half


def t_quantile(degrees: float) -> float:
    """Student's t at 97.5 %, for one degree of freedom or more."""
    if degrees > 100:
        return Z + (Z**3 + Z) / (4 * degrees) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * degrees**2)
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)

    def above(angle: float) -> float:
        """The share beyond sqrt(degrees) * tan(angle), by Simpson's rule over angles."""
        steps = 200
        width = (math.pi / 2 - angle) / steps
        powers = [max(math.cos(angle + place * width), 0.0) ** (degrees - 1) for place in range(steps + 1)]
        area: float = width / 3 * (powers[0] + 4 * sum(powers[1:-1:2]) + 2 * sum(powers[2:-1:2]) + powers[-1])
        return scale * area

    return math.sqrt(degrees) * math.tan(_root(above, 0.025, 0.0, math.pi / 2))
