"""Checks of notebook 08: the vertical stack's convolution, classes by Bayes' rule, how sure one may be."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .verdict import Mistake, ask, exercise, learns, name_mistake


def _convolved(x: Tensor, weight: Tensor, above: int, below: int, left: int, right: int) -> Tensor:
    return F.conv2d(F.pad(x, (left, right, above, below)), weight)


@exercise
def check_rows_above(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Checks a convolution that sees the rows strictly above, on both sides.

    Arguments:
        answer: takes features `[N, in, H, W]` and a kernel `[out, in, rows, columns]`, columns odd; returns
            `[N, out, H, W]`, in which row r is computed from rows r - rows … r - 1.

    Example:
        >>> check_rows_above(lambda x, weight: F.conv2d(F.pad(x, (1, 1, 1, 0)), weight))
        ✗ Not yet. An output sees its own row: move everything down by one more row.
    """
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((2, 3), (1, 5), (3, 1)):
        x, weight = (
            torch.randn(size, generator=generator, dtype=torch.float64)
            for size in ((2, 3, 6, 7), (4, 3, rows, columns))
        )
        if rows == 2:  # the first question is about the kernel that the stub's reader has in mind
            x, weight = x[:, :1], weight[:, :1]
        beside = columns // 2
        result = ask(answer, x, weight)
        right = _convolved(x, weight, rows, -1, beside, beside)
        if not isinstance(result, Tensor) or result.shape != right.shape:
            kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise Mistake(
                f"From features {tuple(x.shape)} and a kernel {tuple(weight.shape)} you return {kind}: return "
                f"{tuple(right.shape)}, as many rows and columns as came in."
            )
        if torch.allclose(result.double(), right, atol=1e-5):
            continue
        for wrong, words in (
            (2 * right, "Everything counts twice."),
            *(
                (
                    _convolved(x, weight.flip(sides), rows, -1, beside, beside),
                    "The kernel is flipped: layers of PyTorch slide it as it is.",
                )
                for sides in ((2,), (3,), (2, 3))
            ),
            (
                _convolved(x.mT, weight, rows, -1, beside, beside).mT,
                "Rows and columns are swapped: an output sees columns to its left.",
            ),
            (
                F.conv2d(F.pad(x, (beside, beside, rows, 0), mode="replicate")[:, :, :-1], weight),
                "The border is repeated beyond the image: bring in zeros.",
            ),
            (
                _convolved(x, weight, rows, -1, 0, columns - 1),
                "Columns to the left are not seen: above, both sides are allowed. Pad columns // 2 on each side.",
            ),
            (
                _convolved(x, weight, rows - 1, 0, beside, beside),
                "An output sees its own row: move everything down by one more row.",
            ),
            (
                _convolved(x, weight, (rows - 1) // 2, rows // 2, beside, beside),
                "The kernel is centred on the output's row, so it sees that row and a row below: pad above only.",
            ),
            (
                _convolved(x, weight * (torch.arange(rows) < rows - 1)[:, None], rows - 1, 0, beside, beside),
                "You closed a row of the kernel: use all of its rows, moved up by one.",
            ),
            (
                _convolved(x, weight, rows + 1, -2, beside, beside),
                "The row right above is missing: everything was moved down twice.",
            ),
            (
                _convolved(x.roll(1, 2), weight, rows - 1, 0, beside, beside),
                "The first row sees the last one: torch.roll wraps around. Bring in zeros instead.",
            ),
            (
                _convolved(x, weight, rows - 1, 0, beside, beside).roll(1, 2),
                "The first row sees the last one: torch.roll wraps around. Bring in zeros instead.",
            ),
            (
                _convolved(x, weight, rows, -1, columns - 1, 0),
                "Columns to the right are not seen: above, both sides are allowed. Pad columns // 2 on each side.",
            ),
            (
                _convolved(x, weight, -1, rows, beside, beside),
                "An output sees rows below it: pad above, not below.",
            ),
        ):
            if wrong.shape == result.shape and torch.allclose(result.double(), wrong):
                raise Mistake(words)
        raise Mistake(
            f"With a kernel of {rows} rows and {columns} columns, row r of the result is not what rows r - {rows} … "
            "r - 1 give. Try an image with a single bright pixel."
        )
    x, weight = x.requires_grad_(), weight.requires_grad_()
    learns(ask(answer, x.clone(), weight.clone()), x=x, weight=weight)
    return "Row r sees the rows right above it, all of them on both sides, and nothing else."


@exercise
def check_posterior(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Checks Bayes' rule for log-likelihoods of whole images.

    Arguments:
        answer: takes log p(x | class) `[N, classes]` in nats and the prior p(class) `[classes]`; returns
            p(class | x) `[N, classes]`.

    Example:
        >>> check_posterior(lambda log_likelihood, prior: log_likelihood.exp() * prior)
        ✗ Not yet. Rows of your result add up to 0, not 1: exp(-1500) is 0 in any format. Stay with logarithms.
    """
    log_likelihood = _log_likelihoods().float()  # as a network gives them
    prior = torch.tensor([0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.04, 0.03, 0.02, 0.01])
    result = ask(answer, log_likelihood.clone(), prior.clone())
    log_likelihood, prior = log_likelihood.double(), prior.double()
    right = (log_likelihood + prior.log()).softmax(1)
    if not isinstance(result, Tensor) or result.shape != right.shape:
        kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise Mistake(f"You return {kind}: return one probability per image and class, {tuple(right.shape)}.")
    result = result.double()
    if torch.allclose(result, right, atol=1e-3):
        return "Probabilities of the classes, prior included, from numbers far too small for exp."
    if not result.isfinite().all():
        raise Mistake(
            "Your result holds NaN or infinity. Within a row the numbers lie hundreds of nats apart, and the rows are "
            "as far from each other as -500 and -2800: exp makes 0 or infinity of most of them, in one row or another."
        )
    name_mistake(result, _mistaken_posteriors(log_likelihood, prior), atol=1e-3)
    totals = result.sum(1)
    wrong = (totals - 1).abs() > 1e-3
    if wrong.any():
        raise Mistake(
            f"Rows of your result add up to {float(totals[wrong][0]):.3g}, not 1"
            + (": exp(-1500) is 0 in any format. Stay with logarithms." if not result[wrong].any() else ".")
        )
    raise Mistake("Rows add up to 1, but these are not the probabilities. Which numbers multiply in Bayes' rule?")


def _log_likelihoods() -> Tensor:
    """Twelve images and ten classes as in the notebook: rows far from each other, two classes of each near the top."""
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(12, 10, generator=generator).argsort(1)
    behind = 30 + 700 * torch.rand(12, 10, generator=generator, dtype=torch.float64).square()
    behind[places == 0], behind[places == 1] = 0, torch.linspace(0, 5, 12, dtype=torch.float64)
    return torch.linspace(-500, -2300, 12, dtype=torch.float64)[:, None] - behind


def _mistaken_posteriors(log_likelihood: Tensor, prior: Tensor) -> list[tuple[Tensor, str]]:
    every_class = torch.full_like(log_likelihood, 1 / len(prior))
    right = log_likelihood + prior.log()
    hidden = "exp(-1500) is 0 in any format. A small number added, or a lower limit, hides that: it decides alone now."
    return [
        (every_class, f"All classes come out alike: {hidden}"),
        (prior.expand_as(log_likelihood), f"Each row is the prior, whatever the image: {hidden}"),
        *(
            (
                (log_likelihood / 784 + weight * prior.log()).softmax(1),
                "That is the likelihood of one pixel, on average. The rule asks for that of the whole image.",
            )
            for weight in (0, 1, 1 / 784)
        ),
        (log_likelihood.softmax(1), "The prior does not act: p(class | x) is proportional to p(x | class) p(class)."),
        (
            (log_likelihood + prior).softmax(1),
            "The prior was added to a logarithm as it is: add its logarithm.",
        ),
        *(
            (
                (log_likelihood * factor).softmax(1),
                "The prior was multiplied with a logarithm: probabilities multiply, logarithms add.",
            )
            for factor in (prior, prior.log())
        ),
        (log_likelihood.softmax(1) * prior, "The prior acts, but then rows no longer add up to 1: normalise last."),
        (right.softmax(0), "You normalise over the images. The classes of one image add up to 1."),
        (right.log_softmax(1), "These are logarithms: return probabilities."),
        ((log_likelihood - prior.log()).softmax(1), "The prior divides: a class that is rare becomes likely."),
        ((-log_likelihood + prior.log()).softmax(1), "The likelihood has the wrong sign: the least likely class wins."),
        ((right + prior.log()).softmax(1), "The prior acts twice."),
        ((log_likelihood + prior.log().flip(0)).softmax(1), "The prior stands in the wrong order."),
        (
            (log_likelihood + prior.log2()).softmax(1),
            "Two kinds of logarithm: log-likelihoods are in nats, no bits.",
        ),
        (
            (log_likelihood / math.log(2) + prior.log()).softmax(1),
            "Two kinds of logarithm: log-likelihoods are in nats, and so is `log`. Leave bits alone here.",
        ),
        (
            F.one_hot(right.argmax(1), len(prior)).to(right),
            "That is the likeliest class with probability 1. How likely is the second?",
        ),
    ]


@exercise
def check_temperature_of_doubt(answer: Callable[[Tensor, Tensor], float]) -> str:
    """Checks the number that makes an overconfident classifier as sure as it may be.

    Arguments:
        answer: takes log p(x | class) `[N, classes]` in nats and the true classes `[N]`; returns the T > 0 for which
            the posteriors from log p(x | class) / T, all classes alike before, give the true classes the highest mean
            log-probability.

    Example:
        >>> check_temperature_of_doubt(lambda log_likelihood, labels: 784.0)
        ✗ Not yet. You say 784 for any data: the number has to be found from the images that you are given.
    """
    cases = [_overconfident(doubt) for doubt in (30.0, 8.0, 1.0, 0.4)]
    given = []
    for log_likelihood, labels in cases:
        result = ask(answer, log_likelihood.clone(), labels.clone())
        try:
            given.append(float(result))
        except (TypeError, ValueError, RuntimeError):
            kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise Mistake(f"You return {kind}: return one number for all images.") from None
    if not all(number > 0 and math.isfinite(number) for number in given):
        raise Mistake(f"You return {given}: T is a positive number.")
    best = [min(_DOUBTS, key=lambda doubt: _loss(*case, doubt)) for case in cases]
    if all(
        _loss(*case, own) <= 1.0002 * _loss(*case, found) + 1e-4
        for case, own, found in zip(cases, given, best, strict=True)
    ):
        return "As sure as it may be: the better of two guesses, and honest about the other one."
    if len(set(given)) == 1:
        raise Mistake(
            f"You say {given[0]:g} for any data: the number has to be found from the images that you are given."
        )
    answered = list(zip(cases, given, best, strict=True))
    if all(math.isclose(own, 1 / found, rel_tol=0.05) for _, own, found in answered):
        raise Mistake("That is 1 / T: the log-likelihoods are divided by what you return.")
    likeliest = [max(_mean_probability(*case, t) for t in _DOUBTS) for case in cases]
    if all(
        _mean_probability(*case, own) > most - 1e-3 for (case, own, _), most in zip(answered, likeliest, strict=True)
    ):
        raise Mistake(
            "You make the true classes' mean *probability* large, which forgives a sure mistake: it is the mean "
            "*log*-probability that counts."
        )
    as_often = [min(_DOUBTS, key=lambda t, case=case: _confidence_gap(*case, t)) for case in cases]
    if all(math.isclose(own, fitted, rel_tol=0.02) for own, fitted in zip(given, as_often, strict=True)):
        raise Mistake(
            "You fit the mean probability of the likeliest class to how often it is right. That is fair, but it is "
            "another question: it never asks how unlikely the true class was where you were wrong."
        )
    k = next(k for k, case in enumerate(cases) if _loss(*case, given[k]) > 1.0002 * _loss(*case, best[k]) + 1e-4)
    closer = "larger" if given[k] < best[k] else "smaller"
    raise Mistake(
        f"With T = {given[k]:.4g} the true classes of {len(cases[k][1])} images cost {_loss(*cases[k], given[k]):.4f} "
        f"nats on average. There is a {closer} T with which they cost less."
    )


_DOUBTS = [10 ** (power / 200) for power in range(-300, 600)]  # 0.03 ... 1000


def _loss(log_likelihood: Tensor, labels: Tensor, doubt: float) -> float:
    return float(F.cross_entropy(log_likelihood.double() / doubt, labels))


def _mean_probability(log_likelihood: Tensor, labels: Tensor, doubt: float) -> float:
    return float((log_likelihood.double() / doubt).softmax(1)[range(len(labels)), labels].mean())


def _confidence_gap(log_likelihood: Tensor, labels: Tensor, doubt: float) -> float:
    probability, likeliest = (log_likelihood.double() / doubt).softmax(1).max(1)
    return abs(float(probability.mean() - (likeliest == labels).double().mean()))


def _overconfident(doubt: float) -> tuple[Tensor, Tensor]:
    """Log-likelihoods of images as in the notebook, and classes of which they are `doubt` times too sure."""
    generator = torch.Generator().manual_seed(0)
    behind = (30 + 700 * torch.rand(300, 10, generator=generator).square()) * doubt / 30
    behind[torch.arange(300), torch.randint(10, (300,), generator=generator)] = 0
    labels = (-behind / doubt).softmax(1).multinomial(1, generator=generator)[:, 0]
    near = torch.rand(300, generator=generator) < 0.3  # two classes between which the image does not decide
    second = (labels + 1) % 10
    gap = 2 * doubt * torch.randn(300, generator=generator)
    behind[near, labels[near]], behind[near, second[near]] = 0.0, gap[near]
    right = torch.rand(300, generator=generator) < (gap / doubt).sigmoid()
    labels = torch.where(near & ~right, second, labels)
    strange = torch.rand(300, generator=generator) < 0.05  # images that look like another class altogether
    labels[strange] = torch.randint(10, (300,), generator=generator)[strange]
    return torch.linspace(-500, -2300, 300)[:, None] - behind, labels
