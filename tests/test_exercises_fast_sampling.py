"""Typical answers to the exercises of notebook 05: each wrong one is named for what it is."""

import pytest
import torch

from pixelhelpers.exercises import check_iterate, check_turns_needed


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_turns_needed, check_iterate])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


@pytest.mark.parametrize(
    "answer",
    [
        lambda h, w, k: w + min(k // 2 + 1, w) * (h - 1),
        lambda h, w, k: min(w + (k + 1) // 2 * (h - 1), h * w),
        lambda h, w, k: torch.tensor(w + min(k // 2 + 1, w) * (h - 1)),
    ],
)
def test_turns_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_turns_needed, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda h, w, k: h * w, "pixel by pixel"),
        (lambda h, w, k: w + k // 2 * (h - 1), "one too small"),
        (lambda h, w, k: w + k * (h - 1), "not the kernel's side"),
        (lambda h, w, k: w + (k // 2 + 1) * h, "last row is counted twice"),
        (lambda h, w, k: w - 1 + (k // 2 + 1) * (h - 1), "number of the last turn"),
        (lambda h, w, k: h + (k // 2 + 1) * (w - 1), "exchanged"),
        (lambda h, w, k: w + (k // 2 + 1) * (h - 1), "no further ahead"),
        (lambda h, w, k: h + w - 1, "lag of 1"),
        (lambda h, w, k: 1, "all pixels at once"),
        (lambda h, w, k: 99, "too few: some pixel would be drawn before"),
        (lambda h, w, k: "136", "return a number"),
        (lambda h, w, k: True, "return a number"),
        (lambda h, w, k: w / 0, "raised ZeroDivisionError"),
    ],
)
def test_turns_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_turns_needed, answer)


def until_equal(redraw, x):
    while not torch.equal(new := redraw(x.clone()), x):
        x = new
    return x


def without_a_copy(redraw, x):
    while not torch.equal(new := redraw(x), x):
        x = new
    return x


def fixed_number(passes):
    def iterate(redraw, x):
        for _ in range(passes):
            x = redraw(x)
        return x

    return iterate


def once_more(redraw, x):
    return redraw(until_equal(redraw, x))


def for_ever(redraw, x):
    while True:
        x = redraw(x)


def mostly_equal(redraw, x):
    while ((new := redraw(x.clone())) != x).double().mean() > 0.2:
        x = new
    return new


def first_image_only(redraw, x):
    while not torch.equal((new := redraw(x.clone()))[0], x[0]):
        x = new
    return new


def by_means(redraw, x):
    while (new := redraw(x.clone())).double().mean() != x.double().mean():
        x = new
    return new


def over_the_zeros(redraw, zeros):
    while not torch.equal(new := redraw(zeros.clone()), zeros):
        zeros.copy_(new)
    return zeros


def test_iterate_accepts_what_is_right(capsys):
    assert verdict(capsys, check_iterate, until_equal).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (fixed_number(1), "after 1 pass it"),
        (fixed_number(5), "too early"),
        (fixed_number(36), "The right images, after 36 passes. After"),
        (first_image_only, "all images"),
        (by_means, "too early"),
        (over_the_zeros, "work on a copy"),
        (mostly_equal, "too early"),
        (once_more, "The right image"),
        (for_ever, "more than 200 times"),
        (without_a_copy, "compare with a copy"),
        (lambda redraw, x: x, "never called"),
        (lambda redraw, x: redraw(x)[0], "return the images"),
        (lambda redraw, x: 3, "return the images"),
        (lambda redraw, x: redraw(), "raised TypeError"),
    ],
)
def test_iterate_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_iterate, answer)
