"""Typical answers to the exercises of notebook 14: each wrong one is named for what it is."""

import itertools
import math

import numpy as np
import pytest
import torch

from pixelhelpers.exercises import check_difference, check_unbeaten


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_difference, check_unbeaten])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments, **more: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


# A difference and its error


def paired(first, second):
    apart = first - second
    return apart.mean(), apart.std() / len(apart) ** 0.5


def with_error(error):
    return lambda first, second: ((first - second).mean(), error(first, second, math.sqrt(len(first))))


def with_mean(mean):
    return lambda first, second: (mean(first, second), paired(first, second)[1])


def by_numpy(first, second):
    apart = np.asarray(first) - np.asarray(second)
    return [apart.mean(), apart.std() / len(apart) ** 0.5]


@pytest.mark.parametrize(
    "answer",
    [
        paired,
        by_numpy,
        lambda first, second: torch.stack(paired(first, second)),
        with_error(lambda first, second, root: (first - second).std(correction=0) / root),
        lambda first, second: tuple(float(part) for part in paired(first.float(), second.float())),
        lambda first, second: (first.mean() - second.mean(), ((first - second).var() / len(first)).sqrt()),
    ],
)
def test_difference_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_difference, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda first, second: paired(second, first), "The sign is wrong"),
        (lambda first, second: paired(first, second)[::-1], "changed places"),
        (with_mean(lambda first, second: (first - second).abs().mean()), "the mean *distance*"),
        (with_mean(lambda first, second: first.mean() / second.mean()), "That is the ratio"),
        (with_mean(lambda first, second: (first - second).sum()), "take their mean"),
        (with_mean(lambda first, second: (first - second).median()), "the median"),
        (with_mean(lambda first, second: (first - second).mean().abs()), "The sign is lost"),
        (with_error(lambda a, b, root: (a - b).std() / (root**2 - 1) ** 0.5), "divide by √N"),
        (with_error(lambda a, b, root: (a - b).square().mean().sqrt() / root), "the spread around 0"),
        (with_error(lambda a, b, root: (a.sort()[0] - b.sort()[0]).std() / root), "were sorted"),
        (with_error(lambda a, b, root: (a - b).std() / 10), "You divide by 10.0. Here are 50 images"),
        (with_mean(lambda first, second: first.mean()), "more on average; you say"),
        (with_error(lambda a, b, root: (a.var() + b.var()).sqrt() / root), "scores on *different* images"),
        (with_error(lambda a, b, root: (a.std() + b.std()) / root), "add the errors"),
        (with_error(lambda a, b, root: (a.std() - b.std()).abs() / root), "do not subtract"),
        (with_error(lambda a, b, root: a.std() / root), "one model's own mean"),
        (with_error(lambda a, b, root: b.std() / root), "one model's own mean"),
        (with_error(lambda a, b, root: (a - b).std()), "how much single images differ"),
        (with_error(lambda a, b, root: (a - b).var()), "variance of single images"),
        (with_error(lambda a, b, root: (a - b).var() / root**2), "the error squared"),
        (with_error(lambda a, b, root: (a - b).std() / root**2), "the root of the number"),
        (with_error(lambda a, b, root: (a - b).abs().std() / root), "lost their signs"),
        (with_error(lambda a, b, root: 2 * (a - b).std() / root), "two standard errors"),
        (with_error(lambda a, b, root: 1.96 * (a - b).std() / root), "1.96 standard errors"),
        (with_error(lambda a, b, root: 0.1), "the standard error is"),
        (lambda first, second: (first - second).mean(), "Return two numbers"),
        (lambda first, second: first - second, "Return two numbers"),
        (lambda first, second: first + "1", "raised TypeError"),
    ],
)
def test_difference_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_difference, answer)


# The models that no other beats


def unbeaten(beats, itself=False):
    def answer(models):
        return [
            name
            for name, own in models.items()
            if not any(beats(rival, own) for other, rival in models.items() if itself or other != name)
        ]

    return answer


def nowhere_worse(one, other):
    return all(a <= b for a, b in zip(one, other, strict=True))


def somewhere_better(one, other):
    return any(a < b for a, b in zip(one, other, strict=True))


def beats(one, other):
    return nowhere_worse(one, other) and somewhere_better(one, other)


solution = unbeaten(beats, itself=True)


def by_tensor(models):
    costs = torch.tensor(list(models.values()))
    worse, better = (costs[:, None] >= costs).all(-1), (costs[:, None] > costs).any(-1)
    return {name for name, beaten in zip(models, (worse & better).any(1).tolist(), strict=True) if not beaten}


@pytest.mark.parametrize(
    "answer",
    [
        solution,
        unbeaten(beats),
        by_tensor,
        lambda models: {name: models[name] for name in solution(models)},
        lambda models: (name for name in reversed(solution(models))),
    ],
)
def test_unbeaten_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_unbeaten, answer).startswith("✓")


def earlier_rivals_only(models):
    costs = list(models.values())
    return [name for k, name in enumerate(models) if not any(beats(rival, costs[k]) for rival in costs[:k])]


def neighbours_only(models):
    """Sorted by the first cost, each is compared with the one before it."""
    names = sorted(models, key=models.get)
    pairs = itertools.pairwise(names)
    return names[:1] + [name for before, name in pairs if not beats(models[before], models[name])]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda models: set(models) - set(solution(models)), "the ones that are beaten"),
        (unbeaten(lambda one, other: beats(other, one)), "Lower is better"),
        (unbeaten(lambda one, other: all(a < b for a, b in zip(one, other, strict=True))), "as good in one thing"),
        (unbeaten(nowhere_worse), "Of two equal models"),
        (unbeaten(nowhere_worse, itself=True), "Nobody is better than itself"),
        (unbeaten(somewhere_better), "thing alone is not to beat"),
        (unbeaten(lambda one, other: beats(one[:2], other[:2])), "the first two columns only"),
        (
            lambda models: [
                name
                for name, own in models.items()
                if any(cost == min(other[k] for other in models.values()) for k, cost in enumerate(own))
            ],
            "behind somebody in each thing",
        ),
        (lambda models: [min(models, key=models.get)], "need not be the best in anything"),
        (list, "But b beats c"),
        (earlier_rivals_only, "But c beats a"),
        (neighbours_only, "But c beats a"),
        (lambda models: solution({name: [round(c, 1) for c in own] for name, own in models.items()}), "you say c"),
        (lambda models: solution(models) * 2, "a name comes twice"),
        (lambda models: next(iter(models)), "a list or a set"),
        (lambda models: 3, "a list or a set"),
        (lambda models: [models[name] for name in solution(models)], "is not the name of a model"),
        (lambda models: models + "1", "raised TypeError"),
    ],
)
def test_unbeaten_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_unbeaten, answer)
