"""Intervals for rates from few photos: how sure a share of 10 right out of 10 can be."""

from __future__ import annotations

from math import comb, exp, inf, lgamma, log, log1p, sqrt
from statistics import NormalDist


def wilson_interval(k: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion of which `k` of `n` were seen.

    With p = k/n and z the normal quantile, its ends are (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n).
    It stays inside [0, 1] and has a width even at 0 of n. With n = 0 nothing is known: (0, 1).

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212; recommended by R. G. Newcombe, Statist. Med. 17
    (1998) 857-872 (method 3).
    """
    if not 0 <= k <= n:
        raise ValueError(f"expected 0 <= k <= n, got k = {k}, n = {n}")
    if n == 0:
        return 0.0, 1.0
    z, p = _quantile(confidence), k / n
    centre = p + z * z / (2 * n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if k == 0 else (centre - half) / scale  # exact ends, free of rounding
    high = 1.0 if k == n else (centre + half) / scale
    return low, high


def binomial_upper(k: int, n: int, *, confidence: float = 0.95) -> float:
    """The exact one-sided upper bound of a proportion of which `k` of `n` were seen.

    The largest p for which `k` or fewer of `n` still have a chance of 1 − confidence: Σ_{i≤k} C(n,i) pⁱ (1−p)ⁿ⁻ⁱ = 0.05.
    With k = 0 that is 1 − 0.05^(1/n); with k = n, or n = 0, it is 1.

    Source: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934) 404-413.
    """
    if not 0 <= k <= n:
        raise ValueError(f"expected 0 <= k <= n, got k = {k}, n = {n}")
    if k == n:
        return 1.0
    if k == 0:
        return float(1.0 - (1.0 - confidence) ** (1.0 / n))
    low, high = k / n, 1.0
    for _ in range(60):  # halves the interval each time: to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(k, n, middle) > 1.0 - confidence else (low, middle)
    return high


def _at_most(k: int, n: int, p: float) -> float:
    """The chance of `k` or fewer of `n`, for 0 < p: each term by its logarithm, so that none overflows."""
    log_not = log1p(-p) if p < 1 else -inf
    ways = (lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in range(k + 1))
    return sum(exp(way + i * log(p) + (n - i) * log_not) for i, way in enumerate(ways))


def paired_difference_interval(both: int, first_only: int, second_only: int, neither: int, *,
                               confidence: float = 0.95) -> tuple[float, float]:
    """Interval for p₁ − p₂, two proportions measured on the same n photos.

    Arguments count the photos that both, only the first, only the second, and neither got right. With θ = p₁ − p₂ and
    (lᵢ, uᵢ) Wilson's intervals, the ends are

        θ − √((p₁−l₁)² − 2φ(p₁−l₁)(u₂−p₂) + (u₂−p₂)²)   and   θ + √((u₁−p₁)² − 2φ(u₁−p₁)(p₂−l₂) + (p₂−l₂)²)

    where φ is the correlation of the two, its numerator both·neither − first_only·second_only brought towards 0 by n/2
    where it is positive, and φ = 0 where a marginal total is 0. With n = 0 nothing is known: (−1, 1).

    Source: R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", Statist. Med. 17 (1998) 2635-2650, method 10.
    """
    if min(both, first_only, second_only, neither) < 0:
        raise ValueError("expected counts of photos, got a negative one")
    n = both + first_only + second_only + neither
    if n == 0:
        return -1.0, 1.0
    k1, k2 = both + first_only, both + second_only
    p1, p2 = k1 / n, k2 / n
    (l1, u1), (l2, u2) = (wilson_interval(k, n, confidence=confidence) for k in (k1, k2))
    covariance: float = both * neither - first_only * second_only
    if covariance > 0:
        covariance = max(0.0, covariance - n / 2)
    marginals = k1 * (n - k1) * k2 * (n - k2)
    phi = covariance / sqrt(marginals) if marginals else 0.0
    theta = (first_only - second_only) / n
    return theta - _hypotenuse(p1 - l1, u2 - p2, phi), theta + _hypotenuse(u1 - p1, p2 - l2, phi)


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """The two-sided p-value of McNemar's exact test: could two proportions on the same photos be equal?

    Photos that both or neither got right say nothing. Of the n others, the smaller count k is binomial with p = ½ where the
    two are equal, and the value is min(1, 2 Σ_{i≤k} C(n,i) / 2ⁿ); with n = 0 it is 1.

    Source: Q. McNemar, Psychometrika 12 (1947) 153-157; in this form M. W. Fagerland, S. Lydersen and P. Laake, BMC Med. Res.
    Methodol. 13:91 (2013).
    """
    if min(first_only, second_only) < 0:
        raise ValueError("expected counts of photos, got a negative one")
    n, k = first_only + second_only, min(first_only, second_only)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / (1 << n))  # integers: exact for any number of photos


def _hypotenuse(a: float, b: float, correlation: float) -> float:
    return sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))  # rounding may go a hair below zero


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
