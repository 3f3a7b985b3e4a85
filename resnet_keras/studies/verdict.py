"""The one rule by which a study's claims are shown, not shown or contradicted.

A claim compares two quantities. The effect is their difference, first minus second, paired by seed:
both networks of a pair see the same images in the same order. Two things make the effect uncertain.
Another seed trains other weights, and another test set has other images. Their variances add up,

    variance = variance over the seeds' effects / seeds + variance over the images' effects / images

and the 95% interval is Student's t with the degrees of freedom of Welch and Satterthwaite
(Satterthwaite 1946, "An approximate distribution of estimates of variance components", Biometrics
2; Owen 2007, "The pigeonhole bootstrap", adds the two variances for seeds and images that are
crossed). A quantity that is known for every seed alone, and not for every image, has the first term
alone. The interval is then that of the paired t-test, with one degree of freedom fewer than seeds.

The rule is weak with few seeds. Two or three may agree by chance, and the interval is then too
narrow; or they differ, and t is 12.7 with two seeds and 4.3 with three, so that only large effects
show. Each claim has its own 95%: of forty claims without any effect, one is "shown" by chance.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

CONFIDENCE = 0.95

Verdict = Literal["shown", "not shown", "contradicted"]
Direction = Literal["above", "below"]


@dataclass(frozen=True)
class Effect:
    """The difference of two quantities, and its 95% interval.

    One seed leaves the interval open, and so do seeds and images that agree exactly.

    Attributes:
        mean: of the seeds.
        low, high: ends of the interval; infinite where it is open.
    """

    mean: float
    low: float
    high: float

    def verdict(self, direction: Direction, threshold: float) -> Verdict:
        """Judges the claim that the effect lies on one side of a threshold.

        It is "shown" if the whole interval lies on that side, "contradicted" if the whole interval
        lies on the other side, and "not shown" if the interval includes the threshold.
        """
        if self.low <= threshold <= self.high:
            return "not shown"
        return "shown" if (self.low > threshold) == (direction == "above") else "contradicted"


def effect_of(differences: np.ndarray) -> Effect:
    """Mean and 95% interval of a difference, by the rule of this module.

    Args:
        differences: (seeds, images) float, the first quantity minus the second for every seed and
            test image; (seeds, 1) for a quantity that is known for every seed alone.
    """
    seeds, images = differences.shape
    mean = float(differences.mean())
    unknown = Effect(mean, -math.inf, math.inf)
    if seeds < 2:
        return unknown
    terms = [(differences.mean(axis=1).var(ddof=1) / seeds, seeds - 1)]
    if images > 1:
        terms.append((differences.mean(axis=0).var(ddof=1) / images, images - 1))
    variance = sum(term for term, _ in terms)
    if variance == 0:
        return unknown
    freedom = variance**2 / sum(term**2 / own for term, own in terms)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * math.sqrt(variance))
    return Effect(mean, mean - half, mean + half)
