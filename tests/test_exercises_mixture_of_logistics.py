"""Typical answers to the exercises of notebook 10: each wrong one is named for what it is."""

import math

import pytest
import torch
from torch.nn import functional as F

from pixelhelpers.exercises import check_level_of, check_logistic_log_prob, check_own_bump


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
        drawn(to_level=lambda x, n: torch.bucketize(x, (2 * torch.arange(n - 1, dtype=x.dtype) + 1) / (n - 1) - 1)),
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
        (lambda u, m, s, n: drawn()(u, m, s, n).int(), "int64 is asked for"),
        (lambda u, m, s, n: drawn()(u, m, s, n).byte(), "int64 is asked for"),
        (drawn(lambda u, mean, scale: mean), "uniform number does not act"),
        (drawn(lambda u, mean, scale: mean + scale.sqrt() * u.logit()), "no root of it"),
        (drawn(to_level=lambda x, n: ((x + 1) * (n - 1) / 2).ceil().clamp(0, n - 1)), "round up"),
        (drawn(to_level=lambda x, n: ((x + 1) * (n - 1) / 2).round().clamp(0, n - 1) + 1), "One too high"),
        (drawn(to_level=lambda x, n: ((x + 1) * (n - 1) / 2).round().clamp(0, n)), "the highest one is 15"),
        (drawn(to_level=lambda x, n: ((x + 1) * (n - 1) / 2).round() % n), "comes in at the other"),
        (drawn(to_level=lambda x, n: (x * (n - 1)).round().clamp(0, n - 1)), "not between 0 and 1"),
        (drawn(to_level=lambda x, n: ((x + 1) * 127.5).round().clamp(0, n - 1)), "count up to 255"),
        (lambda u, *given: drawn()(torch.rand_like(u), *given), "which level is nearest"),
        (drawn(lambda u, mean, scale: mean + 2 * scale * u.logit()), "which level is nearest"),
        (lambda u, m, s, n: drawn()(u, m, s, n)[:, None], "one level for each number"),
        (lambda u, m, s, n: u + "1", "raised TypeError"),
    ],
)
def test_level_of_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_level_of, answer)


# A log-probability that survives


def edges(level, mean, log_scale, levels=256, reach=1.0):
    place = 2 * level / (levels - 1) - 1
    return ((place + side * reach / (levels - 1) - mean) * (-log_scale).exp() for side in (-1, 1))


def product(level, mean, log_scale, levels=256, width=None, reach=1.0):
    left, right = edges(level, mean, log_scale, levels, reach)
    width = torch.log(-torch.expm1(left - right)) if width is None else width(right - left)
    lowest, highest = level == 0, level == levels - 1
    inner = F.logsigmoid(right).masked_fill(highest, 0) + F.logsigmoid(-left).masked_fill(lowest, 0)
    return inner + width.masked_fill(lowest | highest, 0)


def difference(level, mean, log_scale, levels=256, end=torch.log):
    left, right = edges(level, mean, log_scale, levels)
    above = right.sigmoid().masked_fill(level == levels - 1, 1)
    return end(above - left.sigmoid().masked_fill(level == 0, 0))


def infinite(level, mean, log_scale, levels=256, chosen=False):
    place, last = 2 * level / (levels - 1) - 1, levels - 1
    left = (place - 1 / last).masked_fill(level == 0, -math.inf)
    right = (place + 1 / last).masked_fill(level == last, math.inf)
    left, right = ((edge - mean) * (-log_scale).exp() for edge in (left, right))
    inner = F.logsigmoid(right) + F.logsigmoid(-left) + torch.log(-torch.expm1(left - right))
    return torch.where(level == 0, F.logsigmoid(right), inner) if chosen else inner


def density(level, mean, log_scale, levels=256):
    z = (2 * level / (levels - 1) - 1 - mean) * (-log_scale).exp()
    return F.logsigmoid(z) + F.logsigmoid(-z) - log_scale


def solution(level, mean, log_scale, levels=256):
    sharpness = (-log_scale).exp()
    return product(level, mean, log_scale, levels, lambda _: torch.log(-torch.expm1(-2 / (levels - 1) * sharpness)))


def chosen_edges(level, mean, log_scale, levels=256):
    """Infinite edges, but chosen before anything is computed from them."""
    left, right = edges(level, mean, log_scale, levels)
    left = torch.where(level == 0, -math.inf, left)
    right = torch.where(level == levels - 1, math.inf, right)
    return F.logsigmoid(right) + F.logsigmoid(-left) + torch.log(-torch.expm1(left - right))


def in_double(level, mean, log_scale, levels=256):
    return solution(level, mean.double(), log_scale.double(), levels)


def with_softplus(level, mean, log_scale, levels=256):
    left, right = edges(level, mean, log_scale, levels)
    inner = torch.log(-torch.expm1(-2 / (levels - 1) * (-log_scale).exp())) - F.softplus(-right) - F.softplus(left)
    outer = torch.where(level == 0, -F.softplus(-right), -F.softplus(left))
    return torch.where((level == 0) | (level == levels - 1), outer, inner)


def always_256(level, mean, log_scale, levels=256):
    return solution(level, mean, log_scale)


def last_is_255(level, mean, log_scale, levels=256):
    place = 2 * level / (levels - 1) - 1
    left, right = ((place + side / (levels - 1) - mean) * (-log_scale).exp() for side in (-1, 1))
    inner = F.logsigmoid(right) + F.logsigmoid(-left) + torch.log(-torch.expm1(left - right))
    return torch.where(level == 0, F.logsigmoid(right), torch.where(level == 255, F.logsigmoid(-left), inner))


def fallback(level, mean, log_scale):
    """The authors' code: where the difference of sigmoids is tiny, density times width."""
    mass = difference(level, mean, log_scale, end=lambda mass: mass)
    middle = density(level, mean, log_scale) + math.log(2 / 255)
    inner = torch.where(mass > 1e-5, mass.clamp(min=1e-12).log(), middle)
    left, right = edges(level, mean, log_scale)
    return torch.where(level == 0, F.logsigmoid(right), torch.where(level == 255, F.logsigmoid(-left), inner))


@pytest.mark.parametrize("answer", [product, solution, chosen_edges, in_double, with_softplus])
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
        (lambda level, mean, *given: product(level, mean.detach(), *given), "comes back to `mean`"),
        (lambda level, mean, log_scale, *given: product(level, mean, log_scale.detach(), *given), "to `log_scale`"),
        (lambda level, mean, log_scale, *given: product(level, mean, log_scale.clamp(-7), *given), "has a lower limit"),
        (lambda level, mean, log_scale, *given: product(level, mean, log_scale.clamp(-3), *given), "has log-prob"),
        (lambda level, mean, *given: product(level, mean.clamp(-1, 1), *given), "a floor"),
        (always_256, "With `levels` = 8, the probabilities of all levels add up to"),
        (last_is_255, "With `levels` = 8, the probabilities of all levels add up to 0.9"),
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


# Another bump


def cauchy(level, mean, log_scale, levels=256, last=None, reach=1, tails=True):
    last = levels - 1 if last is None else last
    place = 2 * level.double() / last - 1 - mean
    left, right = ((place + side * reach / last) / log_scale.double().exp() for side in (-1, 1))
    below, above = 0.5 + left.atan() / math.pi, 0.5 + right.atan() / math.pi
    if tails:
        below, above = torch.where(level == 0, 0.0, below), torch.where(level == last, 1.0, above)
    return (above - below).log()


def normalised(bump):
    """Any function of z, made to add up to 1 over the levels."""

    def answer(level, mean, log_scale, levels=256):
        places = 2 * torch.arange(levels) / (levels - 1) - 1
        z = (places - mean[:, None]) / log_scale[:, None].exp()
        return bump(z).log_softmax(1).gather(1, level[:, None])[:, 0]

    return answer


def gauss(level, mean, log_scale, levels=256):
    place = 2 * level.double() / (levels - 1) - 1 - mean
    left, right = ((place + side / (levels - 1)) / log_scale.double().exp() for side in (-1, 1))
    below = torch.where(level == 0, 0.0, torch.special.ndtr(left))
    return (torch.where(level == levels - 1, 1.0, torch.special.ndtr(right)) - below).log()


def laplace_density(level, mean, log_scale, levels=256):
    return -((2 * level / (levels - 1) - 1 - mean) / log_scale.exp()).abs() - log_scale - math.log(2)


def with_parameters(mean=lambda mean: mean, log_scale=lambda log_scale: log_scale):
    return lambda level, m, s, levels=256: cauchy(level, mean(m), log_scale(s), levels)


def two_humps(level, mean, log_scale, levels=256):
    both = (cauchy(level, mean + side, log_scale, levels) for side in (-0.3, 0.3))
    return torch.logaddexp(*both) - math.log(2)


@pytest.mark.parametrize(
    "answer",
    [
        cauchy,
        normalised(lambda z: -z.square() / 2),
        normalised(lambda z: -z.abs()),
        normalised(lambda z: -2 * torch.log1p(z.square() / 3)),
    ],
)
def test_own_bump_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_own_bump, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (solution, "the logistic once more"),
        (normalised(lambda z: F.logsigmoid(z) + F.logsigmoid(-z)), "the logistic once more"),
        (gauss, "no level may be impossible"),
        (normalised(lambda z: (1 - z.abs()).clamp(min=0).log()), "no level may be impossible"),
        (lambda *given: gauss(*given).clamp(min=-50), "a gradient is not finite"),
        (laplace_density, "Is this a density?"),
        (lambda *given: laplace_density(*given) + math.log(2 / 255), "who owns the tails"),
        (lambda *given: cauchy(*given, tails=False), "who owns the tails"),
        (lambda *given: cauchy(*given, last=255), "8 levels, the probabilities of all levels add up to 0.0"),
        (lambda *given: cauchy(*given, reach=2), "add up to 1.9"),
        (lambda *given: cauchy(*given).exp(), "Return their logarithms"),
        (lambda *given: -cauchy(*given), "Leave the sign to the loss"),
        (lambda *given: cauchy(*given) / math.log(2), "Return nats"),
        (lambda level, m, s, levels=256: -math.log(levels) * torch.ones(len(level)), "the mean moves nothing"),
        (with_parameters(mean=torch.zeros_like), "the mean moves nothing"),
        (with_parameters(log_scale=lambda s: 0 * s - 3), "The entropy grows by 0.00"),
        (with_parameters(log_scale=lambda s: s / 2), "The entropy grows by 0.1"),
        (with_parameters(log_scale=lambda s: -s - 5), "The entropy grows by -"),
        (with_parameters(mean=lambda m: -m), "the likeliest level lies at -0.50"),
        (with_parameters(mean=lambda m: m + 0.1), "the likeliest level lies at 0.10"),
        (two_humps, "the likeliest level lies at"),
        (normalised(lambda z: torch.cos(z) - z.abs() / 8), "Further away from the mean is likelier in places"),
        (with_parameters(mean=torch.Tensor.detach), "no gradient comes back to `mean`"),
        (with_parameters(log_scale=torch.Tensor.detach), "no gradient comes back to `log_scale`"),
        (lambda *given: cauchy(*given).detach(), "no gradient comes back"),
        (lambda *given: cauchy(*given).sum(), "one log-probability for each level"),
    ],
)
def test_own_bump_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_own_bump, answer)
    assert said.startswith("✗") and words in said
