"""Typical answers to the exercises of notebook 08: each wrong one is named for what it is."""

import math

import pytest
import torch
from torch.nn import functional as F

from pixelhelpers.exercises import check_posterior, check_rows_above, check_temperature_of_doubt


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_rows_above, check_posterior])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


def convolved(above, below=0, left=None, right=None, roll=0):
    """A convolution padded by so many rows and columns, given the kernel's rows and columns."""

    def answer(x, weight):
        rows, columns = weight.shape[2:]
        sides = [columns // 2 if side is None else side(columns) for side in (left, right)]
        padding = (*sides, above(rows), below(rows) if callable(below) else below)
        return F.conv2d(F.pad(x.roll(roll, 2), padding), weight)

    return answer


right = convolved(lambda rows: rows, -1)


def by_taps(x, w):
    height, width = x.shape[2:]
    padded = F.pad(x, (w.shape[3] // 2, w.shape[3] // 2, w.shape[2], 0))
    taps = [(up, aside) for up in range(w.shape[2]) for aside in range(w.shape[3])]
    moved = (padded[:, :, up : up + height, aside : aside + width] for up, aside in taps)
    return sum(
        torch.einsum("nihw,oi->nohw", part, w[:, :, up, aside]) for part, (up, aside) in zip(moved, taps, strict=True)
    )


def repeating_the_border(x, w):
    aside = w.shape[3] // 2
    return F.conv2d(F.pad(x, (aside, aside, w.shape[2], 0), mode="replicate")[:, :, :-1], w)


@pytest.mark.parametrize(
    "answer",
    [
        right,
        by_taps,
        lambda x, w: right(x.float(), w.float()),
        lambda x, w: F.conv2d(F.pad(x, (w.shape[3] // 2, w.shape[3] // 2, w.shape[2], 0)), w)[:, :, :-1],
    ],
)
def test_rows_above_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_rows_above, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (convolved(lambda rows: rows - 1), "sees its own row"),
        (convolved(lambda rows: (rows - 1) // 2, lambda rows: rows // 2), "centred on the output's row"),
        (convolved(lambda rows: rows + 1, -2), "moved down twice"),
        (
            lambda x, w: convolved(lambda rows: rows - 1)(x, w * (torch.arange(w.shape[2]) + 1 < w.shape[2])[:, None]),
            "closed",
        ),
        (convolved(lambda rows: rows - 1, roll=1), "torch.roll wraps"),
        (lambda x, w: convolved(lambda rows: rows - 1)(x, w).roll(1, 2), "torch.roll wraps"),
        (convolved(lambda rows: rows, -1, lambda columns: columns - 1, lambda columns: 0), "to the right are not seen"),
        (convolved(lambda rows: -1, lambda rows: rows), "rows below"),
        (convolved(lambda rows: rows), "as many rows and columns as came in"),
        (lambda x, w: [x], "you return list"),
        (lambda x, w: 2 * right(x, w), "counts twice"),
        (lambda x, w: right(x, w).relu(), "single bright pixel"),
        (lambda x, w: right(x, w).half().float(), "single bright pixel"),
        (lambda x, w: torch.zeros_like(right(x, w)), "single bright pixel"),
        (lambda x, w: right(x, w.flip(2)), "kernel is flipped"),
        (lambda x, w: right(x, w.flip(3)), "kernel is flipped"),
        (lambda x, w: right(x, w.flip(2, 3)), "kernel is flipped"),
        (lambda x, w: right(x.mT, w).mT, "Rows and columns are swapped"),
        (repeating_the_border, "border is repeated"),
        (convolved(lambda rows: rows, -1, lambda columns: 0, lambda columns: columns - 1), "to the left are not seen"),
        (lambda x, w: right(x, w.detach()), "no gradient comes back to `weight`"),
        (lambda x, w: right(x.detach(), w), "no gradient comes back to `x`"),
        (torch.no_grad()(right), "no gradient comes back to `x`"),
        (lambda x, w: F.conv2d(x, w[0]), "raised RuntimeError"),
    ],
)
def test_rows_above_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_rows_above, answer)


def naive(ll, prior, less, more=0.0):
    """Bayes' rule with exp, after a number is taken from all logarithms, and another added to the products."""
    products = (ll - less).exp() * prior + more
    return products / products.sum(1, keepdim=True)


@pytest.mark.parametrize(
    "answer",
    [
        lambda ll, prior: (ll + prior.log()).softmax(1),
        lambda ll, prior: (ll.double() + prior.double().log()).softmax(-1),
        lambda ll, prior: torch.stack([torch.softmax(row + prior.log(), 0) for row in ll]),
        lambda ll, prior: torch.exp(ll + prior.log() - (ll + prior.log()).logsumexp(1, keepdim=True)),
        lambda ll, prior: (
            (ll - ll.amax(1, keepdim=True)).exp() * prior / ((ll - ll.amax(1)[:, None]).exp() @ prior)[:, None]
        ),
    ],
)
def test_posterior_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_posterior, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda ll, prior: ll.exp() * prior / (ll.exp() * prior).sum(1, keepdim=True), "holds NaN"),
        (lambda ll, prior: ll.exp() * prior, "add up to 0"),
        (lambda ll, prior: ll.softmax(1), "prior does not act"),
        (lambda ll, prior: (ll + prior).softmax(1), "add its logarithm"),
        (lambda ll, prior: (ll * prior).softmax(1), "logarithms add"),
        (lambda ll, prior: ll.softmax(1) * prior, "normalise last"),
        (lambda ll, prior: (ll + prior.log()).softmax(0), "over the images"),
        (lambda ll, prior: (ll + prior.log()).log_softmax(1), "These are logarithms"),
        (lambda ll, prior: (ll + prior.log()).argmax(1), "one probability per image and class"),
        (lambda ll, prior: naive(ll, prior, ll.max()), "holds NaN"),
        (lambda ll, prior: naive(ll, prior, -1500), "holds NaN"),
        (lambda ll, prior: naive(ll, prior, ll.mean(1, keepdim=True)), "holds NaN"),
        (lambda ll, prior: naive(ll.double(), prior, 0), "holds NaN"),
        (lambda ll, prior: naive(ll, prior, 0, 1e-30), "hides that"),
        (lambda ll, prior: naive(ll, prior, 0).nan_to_num(0), "add up to 0"),
        (lambda ll, prior: naive(ll, prior, 0).nan_to_num(0.1), "hides that"),
        (lambda ll, prior: (ll.clamp(-80) + prior.log()).softmax(1), "hides that"),
        (lambda ll, prior: (ll / 784 + prior.log()).softmax(1), "likelihood of one pixel"),
        (lambda ll, prior: (ll / 784).softmax(1), "likelihood of one pixel"),
        (lambda ll, prior: (ll * prior.log()).softmax(1), "logarithms add"),
        (lambda ll, prior: (ll - prior.log()).softmax(1), "prior divides"),
        (lambda ll, prior: (prior.log() - ll).softmax(1), "wrong sign"),
        (lambda ll, prior: (ll + 2 * prior.log()).softmax(1), "acts twice"),
        (lambda ll, prior: (ll + prior.log().flip(0)).softmax(1), "wrong order"),
        (lambda ll, prior: (ll + prior.log2()).softmax(1), "Two kinds of logarithm"),
        (lambda ll, prior: (ll / math.log(2) + prior.log()).softmax(1), "Two kinds of logarithm"),
        (lambda ll, prior: F.one_hot((ll + prior.log()).argmax(1), 10).float(), "How likely is the second"),
        (lambda ll, prior: (ll + prior.log()).softmax(1).roll(1, 0), "not the probabilities"),
        (lambda ll, prior: torch.ones(12, 10), "add up to 10"),
        (lambda ll, prior: ll / 0 + None, "raised TypeError"),
    ],
)
def test_posterior_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_posterior, answer)


def cost(ll, labels, T):
    return F.cross_entropy(ll / T, labels)


GRID = [10 ** (power / 100) for power in range(-200, 350)]


def by_grid(ll, labels, measure=cost):
    return min(GRID, key=lambda T: measure(ll, labels, T))


def by_descent(ll, labels):
    logarithm = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([logarithm], max_iter=200, line_search_fn="strong_wolfe")
    less = ll - ll.amax(1, keepdim=True)

    def closure():
        optimizer.zero_grad()
        loss = cost(less, labels, logarithm.exp())
        loss.backward()
        return loss

    optimizer.step(closure)
    return logarithm.exp()


def by_halving(ll, labels):
    """Where the slope is 0: the expected log-likelihood is that of the true classes."""
    low, high = 1e-3, 1e4
    for _ in range(100):
        T = (low * high) ** 0.5
        gap = ((ll / T).softmax(1) * ll).sum(1) - ll[range(len(ll)), labels]
        low, high = (T, high) if gap.mean() > 0 else (low, T)
    return T


@pytest.mark.parametrize(
    "answer", [by_grid, by_descent, by_halving, lambda ll, labels: torch.tensor(by_grid(ll.double(), labels))]
)
def test_temperature_of_doubt_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_temperature_of_doubt, answer).startswith("✓")


def right_ones(ll, labels):
    keep = ll.argmax(1) == labels
    return by_grid(ll[~keep], labels[~keep])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda ll, labels: 1.0, "1 for any data"),
        (lambda ll, labels: 784, "784 for any data"),
        (lambda ll, labels: 30, "30 for any data"),
        (lambda ll, labels: by_grid(ll, labels, lambda *given: -cost(*given)), "for any data"),
        (lambda ll, labels: 1 / by_grid(ll, labels), "That is 1 / T"),
        (lambda ll, labels: math.log(by_grid(ll, labels)), "T is a positive number"),
        (lambda ll, labels: -by_grid(ll, labels), "T is a positive number"),
        (lambda ll, labels: math.nan, "T is a positive number"),
        (
            lambda ll, labels: by_grid(ll, labels, lambda ll, y, T: -(ll / T).softmax(1)[range(len(y)), y].mean()),
            "mean *probability* large",
        ),
        (
            lambda ll, labels: by_grid(
                ll,
                labels,
                lambda ll, y, T: abs((ll / T).softmax(1).amax(1).mean() - (ll.argmax(1) == y).float().mean()),
            ),
            "it never asks how unlikely the true class was",
        ),
        (
            lambda ll, labels: by_grid(
                ll, labels, lambda ll, y, T: ((ll / T).softmax(1) - F.one_hot(y, 10)).square().sum(1).mean()
            ),
            "There is a larger T",
        ),
        (lambda ll, labels: by_grid(ll[:10], labels[:10]), "There is a smaller T"),
        (right_ones, "There is a smaller T"),
        (lambda ll, labels: by_grid(ll, labels.roll(1)), "There is a smaller T"),
        (lambda ll, labels: by_grid(ll, labels) / 2, "There is a larger T"),
        (lambda ll, labels: 2 * by_grid(ll, labels), "There is a smaller T"),
        (lambda ll, labels: by_grid(ll, labels) ** 0.5, "There is a larger T"),
        (lambda ll, labels: min(range(1, 21), key=lambda T: cost(ll, labels, T)), "There is a larger T"),
        (lambda ll, labels: ll.std(), "There is a smaller T"),
        (lambda ll, labels: torch.full((len(ll),), by_grid(ll, labels)), "one number for all images"),
        (lambda ll, labels: (by_grid(ll, labels), 0.0), "one number for all images"),
    ],
)
def test_temperature_of_doubt_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_temperature_of_doubt, answer)
    assert said.startswith("✗") and words in said
