import math

import pytest

from pawlatch.stats import binomial_upper, paired_difference_interval, wilson_interval


@pytest.mark.parametrize(
    ("k", "n", "expected"),
    [  # Newcombe 1998 (Statist. Med. 17, 857-872), table I, method 3
        (81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_interval_has_the_published_values(k: int, n: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(k, n) == pytest.approx(expected, abs=5e-5)


def test_wilson_interval_is_symmetric_and_exact_at_the_ends() -> None:
    low, high = wilson_interval(3, 10)
    assert wilson_interval(7, 10) == pytest.approx((1 - high, 1 - low))
    assert wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_a_lower_confidence_gives_a_shorter_interval() -> None:
    wide, narrow = wilson_interval(5, 10), wilson_interval(5, 10, confidence=0.8)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ((59, 6, 16, 80), (-0.1186, -0.0046)),  # Cavo et al. 2012, in Fagerland, Lydersen and Laake 2017, chapter 8
        ((1, 1, 7, 12), (-0.5069, -0.0256)),  # Bentur et al. 2009, same place
        ((36, 12, 2, 0), (0.0569, 0.3404)),  # Newcombe 1998 (Statist. Med. 17, 2635-2650)
    ],
)
def test_paired_interval_has_the_published_values(cells: tuple[int, ...], expected: tuple[float, float]) -> None:
    assert paired_difference_interval(*cells) == pytest.approx(expected, abs=5e-5)


def test_paired_interval_turns_with_its_arguments_and_has_a_width_without_a_difference() -> None:
    low, high = paired_difference_interval(40, 5, 1, 4)
    assert paired_difference_interval(40, 1, 5, 4) == pytest.approx((-high, -low))
    low, high = paired_difference_interval(50, 0, 0, 0)
    assert -0.1 < low < 0 < high < 0.1
    assert paired_difference_interval(0, 0, 0, 0) == (-1.0, 1.0)


@pytest.mark.parametrize("counts", [(3, 2), (-1, 2)])
def test_impossible_counts_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="0 <= k <= n"):
        wilson_interval(*counts)
    with pytest.raises(ValueError, match="negative"):
        paired_difference_interval(1, -1, 0, 0)


@pytest.mark.parametrize(
    ("k", "n", "expected"),
    [  # k = 0 is the closed form; the test below solves the others the other way round
        (0, 120, 0.0246557), (0, 299, 0.0099691), (1, 20, 0.2161), (2, 10, 0.5069), (5, 100, 0.1023), (7, 10, 0.9127), (10, 10, 1.0),
    ],
)
def test_binomial_upper_has_the_exact_values(k: int, n: int, expected: float) -> None:
    assert binomial_upper(k, n) == pytest.approx(expected, abs=1e-4)


def test_at_the_binomial_bound_so_few_have_a_chance_of_one_in_twenty() -> None:
    for k, n in ((1, 3), (4, 50), (49, 50), (30, 400)):
        p = binomial_upper(k, n)
        assert sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)) == pytest.approx(0.05)
    assert binomial_upper(10, 10_000) == pytest.approx(0.0016966, abs=2e-6)  # Poisson's 16.962 / 10,000 and a little
    assert (binomial_upper(0, 0), binomial_upper(0, 50, confidence=0.99) > binomial_upper(0, 50)) == (1.0, True)
    with pytest.raises(ValueError, match="0 <= k <= n"):
        binomial_upper(3, 2)
