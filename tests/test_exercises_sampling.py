"""Typical answers to the exercises of notebook 04: each wrong one is named for what it is."""

import pytest
import torch

from pixelhelpers.exercises import check_completion, check_temperature, check_top_p
from pixelhelpers.sampling import draw


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_temperature, check_top_p, check_completion])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


# Temperature


def in_place(probs, T):
    probs.pow_(1 / T)
    return probs / probs.sum(-1, keepdim=True)


@pytest.mark.parametrize(
    "answer",
    [
        lambda probs, T: (probs.log() / T).softmax(-1),
        lambda probs, T: torch.softmax(probs.clamp(min=1e-30).log() / T, dim=1),
        lambda probs, T: draw_with(probs, T),
    ],
)
def test_temperature_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_temperature, answer).startswith("✓")


def draw_with(probs, T):
    powers = probs.double() ** (1 / T)
    return powers / powers.sum(-1, keepdim=True)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda probs, T: probs, "temperature does nothing"),
        (
            lambda probs, T: probs / T / (probs / T).sum(-1, keepdim=True),
            "temperature does nothing",
        ),
        (lambda probs, T: probs / T, "sum to 2"),
        (lambda probs, T: probs ** (1 / T), "sum to 0.38"),
        (lambda probs, T: (probs.log() * T).softmax(-1), "Upside down"),
        (lambda probs, T: (probs / T).softmax(-1), "you gave it probabilities"),
        (lambda probs, T: (probs ** (1 / T)).softmax(-1), "you gave it the powers"),
        (lambda probs, T: (probs.log() / T).softmax(0), "over the images"),
        (lambda probs, T: torch.exp(probs * probs.log() / T), "NaN"),
        (lambda probs, T: probs ** (1 / T) / (probs ** (1 / T)).sum(-1, keepdim=True), "underflow"),
        (in_place, "changed the probabilities"),
        (lambda probs, T: probs[0], "keep the shape"),
        (lambda probs, T: 1.0, "return a tensor"),
        (lambda probs, T: torch.ones_like(probs) / 4, "0 to any power is 0"),
        (lambda probs, T: probs / 0 + oops, "raised NameError"),  # noqa: F821
    ],
)
def test_temperature_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_temperature, answer)


# Top-p


def top_p(probs, p, extra=0, descending=True, exclusive=False, scatter=True, normalise=True):
    likely, level = probs.sort(-1, descending=descending)
    before = likely.cumsum(-1) - likely
    keep = likely.cumsum(-1) <= p if exclusive else before < p
    for _ in range(extra):
        keep = torch.cat([torch.ones_like(keep[:, :1]), keep[:, :-1]], dim=-1)
    kept = likely * keep
    if scatter:
        kept = torch.zeros_like(probs).scatter(-1, level, kept)
    return kept / kept.sum(-1, keepdim=True) if normalise else kept


def by_level(probs, p):
    kept = probs * (probs.cumsum(-1) - probs < p)
    return kept / kept.sum(-1, keepdim=True)


def with_loop(probs, p):
    result = torch.zeros_like(probs)
    for row, target in zip(probs, result, strict=True):
        total = 0.0
        for level in row.argsort(descending=True):
            target[level] = row[level]
            total += row[level]
            if total >= p:
                break
    return result / result.sum(-1, keepdim=True)


@pytest.mark.parametrize("answer", [top_p, with_loop])
def test_top_p_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_top_p, answer).startswith("✓")


def keep_in_place(probs, p):
    probs[probs < 0.25] = 0
    return probs / probs.sum(-1, keepdim=True)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda probs, p: top_p(probs, p, normalise=False), "divide by what is left"),
        (lambda probs, p: top_p(probs, p, scatter=False), "still in sorted order"),
        (lambda probs, p: top_p(probs, p, descending=False), "*least* likely"),
        (lambda probs, p: top_p(probs, p, exclusive=True), "even when it alone exceeds p"),
        (lambda probs, p: top_p(probs, 0.35), "use the argument"),
        (lambda probs, p: top_p(probs, p - 0.2), "crosses p belongs to the set"),
        (lambda probs, p: top_p(probs, p, extra=1), "one level too many"),
        (by_level, "order of the levels"),
        (lambda probs, p: torch.where(probs >= p, probs, 0), "nothing is left"),
        (
            lambda probs, p: (
                torch.where(probs >= 1 - p, probs, 0) / probs.where(probs >= 1 - p, 0).sum(-1, keepdim=True)
            ),
            "p is compared with single probabilities",
        ),
        (lambda probs, p: probs, "Nothing is cut off"),
        (lambda probs, p: top_p(probs, 0.6), "use the argument"),
        (lambda probs, p: top_p(probs, min(p, 0.95)), "With p = 1"),
        (keep_in_place, "changed the probabilities"),
        (lambda probs, p: probs[:, :2], "keep the shape"),
    ],
)
def test_top_p_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_top_p, answer)


# Completion


def paint(model, canvas, known, choose, by_columns=False):
    height, width = known.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    for row, column in sorted(places, key=lambda place: place[::-1]) if by_columns else places:
        if not known[row, column]:
            with torch.no_grad():
                probs = model(canvas)[:, :, row, column].softmax(1)
            canvas[:, 0, row, column] = choose(probs, row, column).to(canvas)
    return canvas


def numbers(uniform):
    return lambda probs, row, column: draw(probs, uniform[:, 0, row, column])


def in_turn(uniform):
    following = iter(uniform.flatten(1).T)
    return lambda probs, row, column: draw(probs, next(following))


def right(model, given, known, uniform):
    return paint(model, given * known, known, numbers(uniform))


def over_given(model, given, known, uniform):
    return paint(model, given, known, numbers(uniform))


def from_given(model, given, known, uniform):  # unknown pixels of `given` cannot act: right too
    return paint(model, given.clone(), known, numbers(uniform))


def free(model, given, known, uniform):
    return paint(model, torch.zeros_like(given), torch.zeros_like(known), numbers(uniform))


def pasted(model, given, known, uniform):
    return torch.where(known, given, free(model, given, known, uniform))


def one_look(model, given, known, uniform):
    with torch.no_grad():
        probs = model(given * known).softmax(1).movedim(1, -1)[:, None]
    return torch.where(known, given, draw(probs, uniform).to(given))


def multinomial(model, given, known, uniform):
    return paint(model, given * known, known, lambda probs, *at: torch.multinomial(probs, 1)[:, 0])


def greedy(model, given, known, uniform):
    return paint(model, given * known, known, lambda probs, *at: probs.argmax(1))


def columns_first(model, given, known, uniform):
    return paint(model, given * known, known, numbers(uniform), by_columns=True)


def mirrored(model, given, known, uniform):
    return paint(model, given * known, known, lambda probs, *at: draw(probs, 1 - uniform[:, 0, at[0], at[1]]))


@pytest.mark.parametrize("answer", [right, from_given])
def test_completion_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_completion, answer).startswith("✓")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda model, given, known, uniform: given.clone(), "nothing was drawn"),
        (lambda model, given, known, uniform: given * known, "all 0"),
        (lambda model, given, known, uniform: given[0], "return images"),
        (lambda model, given, known, uniform: right(model, given, known, uniform) / 3, "integers"),
        (
            lambda model, given, known, uniform: 3 - right(model, given, known, uniform),
            "have changed",
        ),
        (over_given, "`given` itself"),
        (free, "painted over"),
        (pasted, "pasted"),
        (one_look, "one look"),
        (multinomial, "torch.multinomial"),
        (greedy, "argmax"),
        (columns_first, "column by column"),
        (
            lambda *given: paint(given[0], given[1] * given[2], given[2], in_turn(given[3])),
            "`uniform` in turn",
        ),
        (mirrored, "1 - u"),
    ],
)
def test_completion_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_completion, answer)


def test_checks_leave_the_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_completion(multinomial)
    assert torch.equal(torch.rand(3), expected)
