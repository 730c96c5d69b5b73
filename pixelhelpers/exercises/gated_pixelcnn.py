"""Checks of notebook 08: the vertical stack's convolution, classes by Bayes' rule."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .verdict import Mistake, ask, exercise


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
        if torch.allclose(result, right):
            continue
        for wrong, words in (
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
            if wrong.shape == result.shape and torch.allclose(result, wrong):
                raise Mistake(words)
        raise Mistake(
            f"With a kernel of {rows} rows and {columns} columns, row r of the result is not what rows r - {rows} … "
            "r - 1 give. Try an image with a single bright pixel."
        )
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
    generator = torch.Generator().manual_seed(0)
    log_likelihood = -1500 - 6 * torch.rand(5, 3, generator=generator, dtype=torch.float64)
    prior = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    right = (log_likelihood + prior.log()).softmax(1)
    result = ask(answer, log_likelihood.clone(), prior.clone())
    if not isinstance(result, Tensor) or result.shape != right.shape:
        kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise Mistake(f"You return {kind}: return one probability per image and class, {tuple(right.shape)}.")
    result = result.double()
    if torch.allclose(result, right):
        return "Probabilities of the classes, prior included, from numbers far too small for exp."
    if result.isnan().any():
        raise Mistake("Your result holds NaN: exp(-1500) is 0 in any format, and 0 / 0 is no number. Use softmax.")
    for wrong, words in (
        (log_likelihood.softmax(1), "The prior does not act: p(class | x) is proportional to p(x | class) p(class)."),
        (
            (log_likelihood + prior).softmax(1),
            "The prior was added to a logarithm as it is: add its logarithm.",
        ),
        (
            (log_likelihood * prior).softmax(1),
            "The prior was multiplied with a logarithm: probabilities multiply, logarithms add.",
        ),
        (log_likelihood.softmax(1) * prior, "The prior acts, but then rows no longer add up to 1: normalise last."),
        (
            (log_likelihood + prior.log()).softmax(0),
            "You normalise over the images. The classes of one image add up to 1.",
        ),
        (right.log(), "These are logarithms: return probabilities."),
    ):
        if torch.allclose(result, wrong):
            raise Mistake(words)
    totals = result.sum(1)
    if not torch.allclose(totals, torch.ones_like(totals)):
        raise Mistake(
            f"Rows of your result add up to {float(totals[0]):.3g}, not 1"
            + (": exp(-1500) is 0 in any format. Stay with logarithms." if not result.any() else ".")
        )
    raise Mistake("Rows add up to 1, but these are not the probabilities. Which numbers multiply in Bayes' rule?")
