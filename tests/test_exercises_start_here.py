"""The checks of notebook 00: right answers pass, wrong ones are named for what they are."""

import math

import pytest
import torch

from pixelhelpers.exercises import check_dearer_than_noise, check_times_as_probable, check_times_asked


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_times_as_probable, check_times_asked])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


@pytest.mark.parametrize(
    "answer",
    [
        lambda b, o, n: 2 ** ((o - b) * n),
        lambda b, o, n: math.exp(math.log(2) * (o * n - b * n)),
        lambda b, o, n: math.prod([2 ** (o - b)] * n),
        lambda b, o, n: torch.tensor(2.0, dtype=torch.float64) ** (n * (o - b)),
    ],
)
def test_how_many_times_as_probable_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_times_as_probable, answer).startswith("✓")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda b, o, n: 2 ** ((b - o) * n), "Upside down"),
        (lambda b, o, n: 2 ** (o - b), "for one pixel"),
        (lambda b, o, n: n * 2 ** (o - b), "belongs in the exponent"),
        (lambda b, o, n: (o - b) * n, "the exponent of 2"),
        (lambda b, o, n: o - b, "difference in bits per pixel"),
        (lambda b, o, n: o / b, "You divide the costs"),
        (lambda b, o, n: math.exp((o - b) * n), "powers of e"),
        (lambda b, o, n: 10 ** ((o - b) * n), "powers of 10"),
        (lambda b, o, n: -(2 ** ((o - b) * n)), "never a negative number"),
        (lambda b, o, n: 2 ** (abs(o - b) * n), "lose the sign"),
        (lambda b, o, n: 2 ** ((o - b) * 784), "use the argument"),
        (lambda b, o, n: 4 ** ((o - b) * n), "squares it"),
        (lambda b, o, n: 2**78, "784 pixels at 2.9 bits cost 2273.6"),
        (lambda b, o, n: str(b), "return a number"),
        (lambda b, o, n: b / 0, "raised ZeroDivisionError"),
    ],
)
def test_how_many_times_as_probable_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_times_as_probable, answer)
    assert said.startswith("✗") and words in said, said


@pytest.mark.parametrize(
    "answer",
    [
        lambda n, s, r: s * (s - r),
        lambda n, s, r: len([k for k in range(s * s) if k >= r * s]),
        lambda n, s, r: s * s - s * r,
        lambda n, s, r: torch.tensor(s * (s - r)),
    ],
)
def test_how_often_is_asked_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_times_asked, answer).startswith("✓")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda n, s, r: n * s * (s - r), "painted side by side"),
        (lambda n, s, r: s * s, "need not be painted"),
        (lambda n, s, r: s * r, "the others are painted"),
        (lambda n, s, r: s - r, "A row has many pixels"),
        (lambda n, s, r: n, "a pass for a picture"),
        (lambda n, s, r: 1, "enough to read"),
        (lambda n, s, r: s * (s - r) - 1, "The first missing pixel"),
        (lambda n, s, r: s * (s - r) + 1, "After the last pixel"),
        (lambda n, s, r: s * s - r, "whole rows"),
        (lambda n, s, r: (s - r) ** 2, "its height only"),
        (lambda n, s, r: 28 * (28 - r), "The side is an argument"),
        (lambda n, s, r: 784, "pictures = 1, side = 28, rows = 14"),
        (lambda n, s, r: s * (s - r) / 1, "is an int"),
        (lambda n, s, r: True, "is an int"),
    ],
)
def test_how_often_is_asked_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_times_asked, answer)
    assert said.startswith("✗") and words in said, said


def checkerboard(dark=0, light=255):
    even = (torch.arange(28)[:, None] + torch.arange(28)) % 2 == 0
    return torch.where(even, dark, light)


@pytest.mark.parametrize(
    "answer",
    [torch.full((28, 28), 1), checkerboard(), checkerboard(100, 200).float(), checkerboard()[None].tolist()],
)
def test_pictures_dearer_than_noise_pass(capsys, answer):
    assert verdict(capsys, check_dearer_than_noise, answer).startswith("✓")


@pytest.mark.parametrize(
    "answer, words",
    [
        (torch.zeros(28, 28), "That picture costs 0.0"),
        (torch.full((28, 28), 255), "That picture costs"),
        (torch.randint(256, (28, 28), generator=torch.Generator().manual_seed(5)), "noise up to"),
        (torch.arange(28).remainder(2).mul(255).expand(28, 28), "That picture costs"),
        (torch.arange(28)[:, None].mul(9).expand(28, 28), "That picture costs"),
        (checkerboard() / 255.5, "whole numbers from 0 to 255"),
        (checkerboard() - 1, "whole numbers from 0 to 255"),
        (checkerboard() + 1, "whole numbers from 0 to 255"),
        (torch.full((28, 28), torch.nan), "whole numbers from 0 to 255"),
        (checkerboard().flatten(), "has the shape (784,)"),
        (checkerboard()[:14], "has the shape (14, 28)"),
        (7, "has the shape ()"),
        ("noise", "That is no picture"),
    ],
)
def test_other_pictures_are_told_what_they_cost_or_lack(capsys, answer, words):
    said = verdict(capsys, check_dearer_than_noise, answer)
    assert said.startswith("✗") and words in said, said
