"""Typical answers to the exercises of notebook 10: each wrong one is named for what it is."""

import math

import pytest
import torch
from torch.nn import functional as F

from pixelhelpers.exercises import check_level_of, check_logistic_log_prob


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_level_of, check_logistic_log_prob])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments, **more: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


# From a uniform number to a level


def drawn(x=lambda u, mean, scale: mean + scale * u.logit(), to_level=None):
    """A level from the real number that `x` gives; by default the nearest."""

    def nearest(x, levels):
        return ((x + 1) * (levels - 1) / 2).round().clamp(0, levels - 1)

    def answer(u, mean, log_scale, levels):
        return (to_level or nearest)(x(u, mean, log_scale.exp()), levels).long()

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        drawn(),
        drawn(lambda u, mean, scale: mean + scale * (u.log() - torch.log1p(-u))),
        drawn(to_level=lambda x, n: ((x + 1) * (n - 1) / 2 + 0.5).floor().clamp(0, n - 1)),
        drawn(to_level=lambda x, n: ((x.clamp(-1, 1) + 1) * (n - 1) / 2).round()),
    ],
)
def test_level_of_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_level_of, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda u, mean, log_scale, levels: mean + log_scale.exp() * u.logit(), "the real numbers x themselves"),
        (lambda u, m, s, n: ((m + s.exp() * u.logit() + 1) * (n - 1) / 2).clamp(0, n - 1), "places between"),
        (lambda u, m, s, n: drawn()(u, m, s, n).double(), "end with .long()"),
        (drawn(to_level=lambda x, n: ((x + 1) * (n - 1) / 2).round()), "own the tails, so clamp"),
        (drawn(to_level=lambda x, n: ((x + 1) * (n - 1) / 2).clamp(0, n - 1)), "cut off instead of rounding"),
        (drawn(to_level=lambda x, n: ((x + 1) / 2 * n).floor().clamp(0, n - 1)), "equal bins"),
        (drawn(to_level=lambda x, n: ((x + 1) / 2 * n).round().clamp(0, n - 1)), "steps from -1 to 1"),
        (drawn(to_level=lambda x, n: ((x.clamp(-1, 1) + 1) * 127.5).round()), "count up to 255"),
        (drawn(lambda u, mean, scale: mean + scale.log() * u.logit()), "as if it were the scale"),
        (drawn(lambda u, mean, scale: mean - scale * u.logit()), "fall as u rises"),
        (drawn(lambda u, mean, scale: mean + scale * u.sigmoid()), "The sigmoid is the CDF"),
        (drawn(lambda u, mean, scale: mean + scale * math.sqrt(2) * torch.erfinv(2 * u - 1)), "normal distribution"),
        (drawn(lambda u, mean, scale: mean + u.logit() / scale), "divide by the scale"),
        (drawn(lambda u, mean, scale: scale * u.logit()), "mean does not act"),
        (drawn(lambda u, mean, scale: mean + 2 * scale * u.logit()), "which level is nearest"),
        (lambda u, m, s, n: drawn()(u, m, s, n)[:, None], "one level for each number"),
        (lambda u, m, s, n: u + "1", "raised TypeError"),
    ],
)
def test_level_of_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_level_of, answer)


# A log-probability that survives


def edges(level, mean, log_scale, reach=1.0):
    place = 2 * level / 255 - 1
    return ((place + side * reach / 255 - mean) * (-log_scale).exp() for side in (-1, 1))


def product(level, mean, log_scale, width=None, reach=1.0):
    left, right = edges(level, mean, log_scale, reach)
    width = torch.log(-torch.expm1(left - right)) if width is None else width(right - left)
    lowest, highest = level == 0, level == 255
    inner = F.logsigmoid(right).masked_fill(highest, 0) + F.logsigmoid(-left).masked_fill(lowest, 0)
    return inner + width.masked_fill(lowest | highest, 0)


def difference(level, mean, log_scale, end=torch.log):
    left, right = edges(level, mean, log_scale)
    above = right.sigmoid().masked_fill(level == 255, 1)
    return end(above - left.sigmoid().masked_fill(level == 0, 0))


def infinite(level, mean, log_scale, chosen=False):
    place = 2 * level / 255 - 1
    left = (place - 1 / 255).masked_fill(level == 0, -math.inf)
    right = (place + 1 / 255).masked_fill(level == 255, math.inf)
    left, right = ((edge - mean) * (-log_scale).exp() for edge in (left, right))
    inner = F.logsigmoid(right) + F.logsigmoid(-left) + torch.log(-torch.expm1(left - right))
    return torch.where(level == 0, F.logsigmoid(right), inner) if chosen else inner


def density(level, mean, log_scale):
    z = (2 * level / 255 - 1 - mean) * (-log_scale).exp()
    return F.logsigmoid(z) + F.logsigmoid(-z) - log_scale


def solution(level, mean, log_scale):
    sharpness = (-log_scale).exp()
    return product(level, mean, log_scale, lambda _: torch.log(-torch.expm1(-2 / 255 * sharpness)))


def fallback(level, mean, log_scale):
    """The authors' code: where the difference of sigmoids is tiny, density times width."""
    mass = difference(level, mean, log_scale, end=lambda mass: mass)
    middle = density(level, mean, log_scale) + math.log(2 / 255)
    inner = torch.where(mass > 1e-5, mass.clamp(min=1e-12).log(), middle)
    left, right = edges(level, mean, log_scale)
    return torch.where(level == 0, F.logsigmoid(right), torch.where(level == 255, F.logsigmoid(-left), inner))


@pytest.mark.parametrize("answer", [product, solution])
def test_logistic_log_prob_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_logistic_log_prob, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (difference, "you return -inf"),
        (lambda *given: difference(*given, end=lambda mass: mass.clamp(min=1e-12).log()), "a floor"),
        (lambda *given: difference(*given, end=lambda mass: (mass + 1e-12).log()), "a floor"),
        (lambda *given: product(*given, width=lambda d: torch.log(1 - (-d).exp())), "torch.expm1"),
        (fallback, "as the authors' code does"),
        (lambda level, mean, log_scale: product(level, mean, log_scale.clamp(max=7)), "has an upper limit"),
        (infinite, "gradient for log_scale is nan"),
        (lambda *given: infinite(*given, chosen=True), "gradient for log_scale is nan"),
        (lambda *given: product(*given).detach(), "no gradient comes back"),
        (density, "density at the middle"),
        (lambda *given: density(*given) + math.log(2 / 255), "Density times width"),
        (lambda *given: product(*given).exp(), "return their logarithms"),
        (lambda *given: -product(*given), "leave the sign"),
        (lambda *given: product(*given) / math.log(2), "These are bits"),
        (lambda *given: product(*given, reach=2.0), "twice too wide"),
        (lambda level, mean, log_scale: product(level, mean, log_scale.exp()), "exponentiated twice"),
        (lambda level, mean, log_scale: product(level, mean, -log_scale), "upside down"),
        (lambda level, mean, log_scale: difference(level, mean, log_scale).log(), "NaN even near"),
        (lambda *given: product(*given) - 1, "has log-probability"),
        (lambda *given: product(*given).sum(), "one log-probability for each level"),
        (lambda level, *given: product(level.clamp(1, 254), *given), "only their own bin"),
        (lambda level, mean, log_scale: level.no_such, "raised AttributeError"),
    ],
)
def test_logistic_log_prob_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_logistic_log_prob, answer)


def outer(lowest, highest):
    """Right inside; at the two ends what the two functions of (left, right) say."""

    def answer(level, mean, log_scale):
        left, right = edges(level, mean, log_scale)
        inside = product(level, mean, log_scale)
        return torch.where(level == 0, lowest(left, right), torch.where(level == 255, highest(left, right), inside))

    return answer


def own_bin(left, right):
    return F.logsigmoid(right) + F.logsigmoid(-left) + torch.log(-torch.expm1(left - right))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (outer(own_bin, own_bin), "only their own bin"),
        (outer(lambda left, right: F.logsigmoid(-right), lambda left, right: F.logsigmoid(left)), "other's tail"),
        (outer(lambda left, right: right, lambda left, right: left), "levels 0 and 255 have log-probability"),
    ],
)
def test_logistic_log_prob_looks_at_the_outer_levels(capsys, answer, words):
    assert words in verdict(capsys, check_logistic_log_prob, answer)
