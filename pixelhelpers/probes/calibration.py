"""How far can a classifier by Bayes' rule be believed? `posterior`, `best_temperature`, and `reliability` in bins."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import require

TEMPERATURES = torch.logspace(-2, 4, 2401, dtype=torch.float64).tolist()  # each is 0.6 % above the one before


class Reliability(NamedTuple):
    """What `reliability` counted, a line for each bin that holds an image."""

    said: Tensor  # float64 `[bins]`: mean probability that was given to the named class
    right: Tensor  # float64 `[bins]`: share of images whose named class is the true one
    low: Tensor  # float64 `[bins]`: the 95 % interval of that share, by Wilson's formula
    high: Tensor
    count: Tensor  # int64 `[bins]`: images


def posterior(log_likelihoods: Tensor, temperature: float = 1.0) -> Tensor:
    """Gives p(class | x) by Bayes' rule, all classes being equally probable before.

    Arguments:
        log_likelihoods: log p(x | class) in nats, `[N, classes]`.
        temperature: a number above 0 that all log-likelihoods are divided by; above 1, the rule gets less sure.

    Returns:
        probabilities, float64 `[N, classes]`.

    Example:
        >>> posterior(torch.tensor([[-1500.0, -1510.0]]), temperature=10.0)
        tensor([[0.7311, 0.2689]], dtype=torch.float64)
    """
    require(temperature > 0, f"temperature is {temperature}, but it divides: give a number above 0.")
    return (log_likelihoods.double() / temperature).softmax(1)


def best_temperature(log_likelihoods: Tensor, truth: Tensor) -> float:
    """Finds the temperature at which the true classes are most probable.

    Arguments:
        log_likelihoods: log p(x | class) in nats, `[N, classes]`.
        truth: the true classes, int64 `[N]`.

    Returns:
        a number between 0.01 and 10,000, to within one per cent.

    References:
        Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017,
        https://arxiv.org/abs/1706.04599

    Example:
        >>> log_likelihoods = torch.tensor([[-30.0, 0.0]]).expand(10, 2)  # always sure of class 1 ...
        >>> truth = torch.tensor([1] * 9 + [0])  # ... and right nine times in ten
        >>> round(30 / best_temperature(log_likelihoods, truth), 1), round(math.log(9), 1)
        (2.2, 2.2)
    """
    scores = log_likelihoods.double()
    return min(TEMPERATURES, key=lambda temperature: float(F.cross_entropy(scores / temperature, truth)))


def reliability(probabilities: Tensor, truth: Tensor, edges: Sequence[float]) -> Reliability:
    """Counts, for images that a classifier was equally sure of, how often it was right.

    Arguments:
        probabilities: p(class | x), `[N, classes]`.
        truth: the true classes, int64 `[N]`.
        edges: ascending borders of the bins, by the largest probability of an image; the first bin begins at the
            first edge, the last one ends at 1, which it contains.

    Returns:
        a `Reliability` with `.said`, `.right`, `.low`, `.high` and `.count`.

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
        >>> found = reliability(probabilities, torch.tensor([0, 1, 1]), edges=(0.5, 0.75))
        >>> found.right, found.count
        (tensor([1.0000, 0.5000], dtype=torch.float64), tensor([1, 2]))
    """
    said, named = probabilities.double().max(1)
    bins = torch.bucketize(said, torch.tensor(edges, dtype=torch.float64), right=True)
    require(bool((bins > 0).all()), f"a probability of {float(said.min()):.3f} lies below the first edge, {edges[0]}.")
    lines = []
    for number in bins.unique():
        inside = bins == number
        share, count = float((named == truth)[inside].double().mean()), int(inside.sum())
        lines.append((float(said[inside].mean()), share, *_wilson(share, count), count))
    *numbers, count = zip(*lines, strict=True)
    return Reliability(*torch.tensor(numbers, dtype=torch.float64), torch.tensor(count))


def _wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share that was counted in so many images."""
    middle, half = share + z**2 / (2 * count), z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return tuple((middle + sign * half) / (1 + z**2 / count) for sign in (-1, 1))
