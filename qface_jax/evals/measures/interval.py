"""How far a rate that was counted may lie from the one that was asked for."""

import math
from collections.abc import Sequence

Z_95 = 1.959963984540054  # normal quantile of 0.975


def wilson(successes: int, trials: int, *, z: float = Z_95) -> tuple[float, float]:
    """Returns the Wilson score interval of a rate, of 95 % unless `z` says otherwise.

    It stays within 0 and 1 and has a width also where all trials succeed or none does.
    Trials count as independent: pairs that share a template are less than that, so the
    true interval of a verification rate is wider.

    Args:
        successes: from 0 to `trials`.
        trials: at least 1.
        z: normal quantile.

    Raises:
        ValueError: the counts do not fit.

    References:
        E. B. Wilson, Probable Inference, the Law of Succession, and Statistical
        Inference, JASA 1927.

    >>> low, high = wilson(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"got {successes} successes of {trials} trials, must be 0 to all of at "
            "least 1"
        )
    rate, spread = successes / trials, z * z / trials
    centre = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(spread * rate * (1 - rate) + (spread / 2) ** 2) / (1 + spread)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high


def wilson_of_mean(
    counts: Sequence[tuple[int, int]], *, z: float = Z_95
) -> tuple[float, float]:
    """Returns the interval of the plain mean of some rates, such as of two galleries.

    The distances of the mean to its ends are the root of the summed squares of those of
    the rates (method of variance estimates recovery).

    Args:
        counts: successes and trials of each rate.
        z: normal quantile.

    References:
        G. Y. Zou, A. Donner, Construction of confidence limits about effect measures,
        Statistics in Medicine 2008.
    """
    rates = [successes / trials for successes, trials in counts]
    ends = [wilson(*one, z=z) for one in counts]
    mean = sum(rates) / len(rates)
    down = math.hypot(*(r - low for r, (low, _) in zip(rates, ends, strict=True)))
    up = math.hypot(*(high - r for r, (_, high) in zip(rates, ends, strict=True)))
    return mean - down / len(rates), mean + up / len(rates)
