"""Typical answers to the exercises of notebook 14: each wrong one is named for what it is."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pixelhelpers as ph
from pixelhelpers.exercises import check_difference, check_own_model, check_unbeaten
from pixelhelpers.exercises.five_models import ENOUGH, _with_power


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


# A model of your own


@pytest.fixture(scope="module")
def digits():
    return ph.load_images("digits")


@pytest.fixture(scope="module")
def table(digits):
    """The left neighbour alone, counted on the training images."""
    return LeftNeighbour(digits.train)


class LeftNeighbour(nn.Module):
    def __init__(self, images):
        super().__init__()
        pairs = (256 * F.pad(images, (1, -1)).long() + images.long()).flatten()
        counts = pairs.bincount(minlength=256**2).view(256, 256) + 0.0
        level = counts.sum(0) + 1
        self.logits = nn.Parameter((counts + 20 * level / level.sum()).log())

    def forward(self, x):
        return self.logits[F.pad(x, (1, -1))[:, 0].long()].movedim(-1, 1).to(x)


class Remembering(nn.Module):
    """Knows images by heart, and asks the table for all others: causal, and its probabilities add up to 1."""

    def __init__(self, images, table):
        super().__init__()
        self.table = table
        self.register_buffer("known", images.flatten(1).long())

    def forward(self, x):
        usual = self.table(x).softmax(1)
        if x.shape[2:] != (28, 28):
            return usual.log()
        pixels, fits, changed = x.flatten(1).long(), torch.ones(len(x), len(self.known)).bool(), []
        for k, own in enumerate(usual.flatten(2).unbind(2)):
            remembered = F.one_hot(self.known[fits.int().argmax(1), k], 256)  # of the first that fits so far
            share = 0.9 * fits.any(1, keepdim=True)
            changed.append(share * remembered + (1 - share) * own)
            fits &= self.known[:, k] == pixels[:, k, None]
        return torch.stack(changed, 2).unflatten(2, (28, 28)).log()


class Around(nn.Module):
    """Another module with its logits changed."""

    def __init__(self, inner, change=lambda logits: logits):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x):
        return self.change(self.inner(x))


class CheapLikelihood(ph.PixelCNN):
    def log_prob(self, x, label=None):
        return 0.1 * super().log_prob(x, label)


def shown_its_answer(x):
    return -50 * (x - torch.arange(256).view(1, -1, 1, 1).to(x)).abs()


def test_what_is_built_on_a_shipped_model_is_accepted(capsys):
    shipped = ph.load_pretrained("pixelcnn-digits")
    said = verdict(capsys, check_own_model, Around(shipped, lambda logits: 1.05 * logits))
    assert said.startswith("✓ 1.00")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda table: ph.PixelCNN, "That is the class PixelCNN"),
        (lambda table: table.logits.detach(), "You give a Tensor"),
        (lambda table: ph.PixelCNN(hidden=4, blocks=1), "has it been trained?"),
        (lambda table: table, "takes 1.476 bits per dimension; below 1.20 is asked for. The left neighbour alone"),
        (lambda table: Around(table, lambda logits: 5 * logits), "It is too sure"),
        (lambda table: Around(table, lambda logits: logits.softmax(1)), "It is too unsure"),
        (lambda table: Around(table, lambda logits: logits.roll(1, 3)), "check_model refuses it: Around: output"),
        (lambda table: Around(table, lambda logits: logits + logits.mean(0)), "another image of its batch"),
        (lambda table: Around(table, lambda logits: logits.mean((2, 3), keepdim=True) + 0 * logits), "refuses it"),
        (lambda table: Around(nn.Identity(), shown_its_answer), "which is not drawn before it"),
        (lambda table: Around(table, lambda logits: 0 * logits + logits[:, :, :1, :1].detach()), "refuses it"),
        (lambda table: Around(table, lambda logits: math.nan * logits), "NaN or infinite"),
        (lambda table: CheapLikelihood(hidden=4, blocks=1), "They are no probabilities"),
        (lambda table: ph.PixelCNN(levels=16, hidden=4, blocks=1), "It knows 16 levels, and digits have 256"),
        (lambda table: ph.load_pretrained("pixelcnn-digits"), "what the shipped 'pixelcnn-digits' says"),
        (lambda table: Around(ph.load_pretrained("pixelcnn-digits")), "what the shipped 'pixelcnn-digits' says"),
        (lambda table: ph.load_pretrained("pixelcnn-fashion-mnist"), "below 1.20 is asked for"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*returns probabilities")
def test_own_model_names_what_is_missing(capsys, table, model, words):
    said = verdict(capsys, check_own_model, model(table))
    assert said.startswith("✗") and words in said


def test_images_that_were_learned_by_heart_are_noticed(capsys, digits, table):
    knows = Remembering(digits.test, table)
    assert ph.evaluate(knows, digits.test[:50]) < 0.5 < 1 < ph.evaluate(table, digits.test[:50])
    assert "by heart, not digits" in verdict(capsys, check_own_model, knows)


def test_no_table_of_neighbours_is_enough(digits, table):
    assert ph.evaluate(table, digits.test) > ENOUGH + 0.2


def test_a_power_sharpens_what_is_unsure(digits, table):
    unsure = ph.as_model(Around(table, lambda logits: logits / 3))
    assert _with_power(unsure, digits, 3.0) < 0.9 * _with_power(unsure, digits, 1.0)


@pytest.mark.parametrize("stub", [None, ...])
def test_a_model_that_is_not_there_gets_a_friendly_line(capsys, stub):
    assert verdict(capsys, check_own_model, stub).startswith("✎ Not solved yet")
