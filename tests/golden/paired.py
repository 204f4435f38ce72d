"""Write paired.json: samples, and what slow or other programs say of their means and differences.

    python tests/golden/paired.py

Intervals: scipy.stats.bootstrap of the plain values, and of groups as a quotient of two paired
samples; with the draws of the project, so that every digit has to be met.
p-values of up to 13 pairs: all choices of signs one by one. Of more, the normal approximation
written out. The first sample is that of Hollander and Wolfe in the help page of R's wilcox.test,
which gives V = 40 and p = 0.01953 one-sided, the half of 0.03906.
Holm: the definition, with fractions. R's p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm") gives 0.04,
0.06, 0.06, 0.06.
"""

import json
from fractions import Fraction
from itertools import product
from math import erfc, sqrt
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

HERE = Path(__file__).parent
DRAWS, SEED = 9999, 0

DEPRESSION = [
    [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30],
    [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29],
]


def ranks(sizes):
    """Mean ranks of the sizes, as fractions."""
    return [
        Fraction(2 * sum(other < size for other in sizes) + sizes.count(size) + 1, 2)
        for size in sizes
    ]


def p_by_signs(differences):
    """Two-sided: twice the share of the choices of signs with so small a sum, at most 1."""
    left = [d for d in differences if d]
    of_each = ranks([abs(d) for d in left])
    whole = sum(of_each)
    plus = sum(rank for rank, d in zip(of_each, left, strict=True) if d > 0)
    smaller = min(plus, whole - plus)
    count = sum(
        sum(rank for rank, sign in zip(of_each, signs, strict=True) if sign) <= smaller
        for signs in product((0, 1), repeat=len(left))
    )
    return float(min(Fraction(1), Fraction(2 * count, 2 ** len(left))))


def p_by_normal(differences):
    """Without a correction for continuity, with one for ties."""
    left = [d for d in differences if d]
    n, sizes = len(left), [abs(d) for d in left]
    of_each = ranks(sizes)
    plus = float(sum(rank for rank, d in zip(of_each, left, strict=True) if d > 0))
    ties = sum(sizes.count(size) ** 3 - sizes.count(size) for size in set(sizes))
    variance = n * (n + 1) * (2 * n + 1) / 24 - ties / 48
    return erfc(abs(plus - n * (n + 1) / 4) / sqrt(variance) / sqrt(2))


def by_holm(values):
    """The smallest level at which each hypothesis is still rejected."""
    order = sorted(values)
    adjusted = [
        max((len(values) - rank) * Fraction(str(p)) for rank, p in enumerate(order[: place + 1]))
        for place in range(len(order))
    ]
    return [float(min(1, adjusted[order.index(p)])) for p in values]


def interval(samples, statistic):
    made = bootstrap(
        samples,
        statistic,
        paired=len(samples) > 1,
        vectorized=True,
        n_resamples=DRAWS,
        method="BCa",
        rng=np.random.default_rng(SEED),
    )
    return [float(made.confidence_interval.low), float(made.confidence_interval.high)]


def mean_of_groups(values, groups):
    names = list(dict.fromkeys(groups))
    sums = [sum(v for v, g in zip(values, groups, strict=True) if g == name) for name in names]
    sizes = [groups.count(name) for name in names]
    return interval(
        (np.array(sums), np.array(sizes, float)),
        lambda s, n, axis: np.round(s.sum(axis) / n.sum(axis), 12),
    )


def main():
    rng = np.random.default_rng(11)
    tests = []
    few_ties = [3, -1, 2, 2, -2, 0, 5, 4, 0, 1]
    samples = {
        "R's help page": [a - b for a, b in zip(*DEPRESSION, strict=True)],
        "ties and zeros": [x / 8 for x in few_ties],
        "one pair": [0.25],
        "five, all better": [0.1, 0.2, 0.3, 0.4, 0.5],
        "twelve": rng.normal(0.3, 1, 12).round(6).tolist(),
    }
    tests += [
        {"name": name, "differences": values, "p": p_by_signs(values)}
        for name, values in samples.items()
    ]
    many = {
        "sixty": rng.normal(0.2, 1, 60).round(6).tolist(),
        "thirty with ties": (rng.integers(-4, 6, 30) / 16).tolist(),
    }
    tests += [
        {"name": name, "differences": values, "p": p_by_normal(values)}
        for name, values in many.items()
    ]
    intervals = []
    for name, values in {
        "skewed": rng.beta(9, 1.5, 24),
        "one outlier": np.array([0.9, 0.91, 0.92, 0.93, 0.1]),
        "distances": rng.gamma(2, 1.5, 40),
    }.items():
        plain = values.round(6).tolist()
        found = interval((np.array(plain),), lambda x, axis: np.round(x.mean(axis), 12))
        intervals.append({"name": name, "values": plain, "groups": None, "interval": found})
    values = rng.beta(8, 2, 30).round(6).tolist()
    groups = [f"p{k}" for k in rng.integers(0, 9, 30).tolist()]
    found = mean_of_groups(values, groups)
    intervals.append({"name": "groups", "values": values, "groups": groups, "interval": found})
    levels = [[0.01, 0.02, 0.03, 0.04], [0.04, 0.001, 0.2, 0.013, 0.6], [0.5]]
    corrected = [{"p": each, "holm": by_holm(each)} for each in levels]
    content = {"tests": tests, "intervals": intervals, "holm": corrected}
    (HERE / "paired.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
