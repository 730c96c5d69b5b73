"""The checks of notebook 03 name typical wrong answers for what they are."""

import math

import pytest
import torch
from torch.nn import functional as F

from pixelhelpers.exercises import check_bits_per_dim, check_to_levels


def nats(logits, images):
    """Nats of every value, `[N, H, W]`."""
    return F.cross_entropy(logits, images[:, 0].long(), reduction="none")


def picked(values, images):
    return values.gather(1, images.long())[:, 0]


def right(logits, images):
    return nats(logits, images).mean((1, 2)) / math.log(2)


@pytest.mark.parametrize(
    "answer, diagnosis",
    [
        (lambda z, x: -right(z, x), "The sign"),
        (lambda z, x: nats(z, x).mean((1, 2)), "These are nats"),
        (lambda z, x: -nats(z, x).mean((1, 2)), "negative nats"),
        (lambda z, x: nats(z, x).mean((1, 2)) * math.log(2), "so divide"),
        (lambda z, x: -picked(z.softmax(1), x).log10().mean((1, 2)), "base 10"),
        (lambda z, x: nats(z, x).sum((1, 2)) / math.log(2), "sum over the image's pixels"),
        (lambda z, x: nats(z, x).sum((1, 2)) / math.log(2) / 784, "these* images"),
        (lambda z, x: nats(z, x).sum((1, 2)), "sum in nats"),
        (
            lambda z, x: nats(z, x).sum((1, 2)) / math.log(2) / len(x),
            "by the number of images, not",
        ),
        (lambda z, x: right(z, x) / len(x), "number of images as well"),
        (lambda z, x: nats(z, x).sum((1, 2)) / math.log(2) / z.shape[1], "number of levels"),
        (lambda z, x: F.cross_entropy(z, x[:, 0].long()) / math.log(2), "averaged over the batch"),
        (lambda z, x: F.cross_entropy(z, x[:, 0].long()), "the number is in nats"),
        (lambda z, x: right(z, x).sum(), "summed over the batch"),
        (lambda z, x: -picked(z.softmax(0), x).log2().mean((1, 2)), "over the images of the batch"),
        (lambda z, x: -picked(z.softmax(2), x).log2().mean((1, 2)), "over the rows"),
        (lambda z, x: -picked(z.softmax(-1), x).log2().mean((1, 2)), "over the columns"),
        (lambda z, x: -picked(z, x).mean((1, 2)) / math.log(2), "not a log-probability"),
        (lambda z, x: picked(z.softmax(1), x).mean((1, 2)), "not its logarithm"),
        (lambda z, x: -picked(z.softmax(1), x).mean((1, 2)).log2(), "the probabilities multiply"),
        (lambda z, x: right(z.softmax(1), x), "applied twice"),
        (lambda z, x: -z.softmax(1).amax(1).log2().mean((1, 2)), "likes best"),
        (lambda z, x: -picked(z.softmax(1), x).log2().mean((1, 2)), "Right for moderate logits"),
        (lambda z, x: right(z, x).tolist(), "return a tensor"),
        (lambda z, x: nats(z, x) / math.log(2), "the shape (3, 5, 8)"),
        (lambda z, x: 2 * right(z, x), "Not the bits per dimension"),
        (lambda z, x: right(z, x) / 0, "NaN or infinite"),
    ],
)
def test_a_wrong_score_is_named_for_what_it_is(answer, diagnosis, capsys):
    check_bits_per_dim(answer)
    printed = capsys.readouterr().out
    assert printed.startswith("✗") and diagnosis in printed


@pytest.mark.parametrize(
    "answer, diagnosis",
    [
        (lambda x: ((x * 0.5 + 0.5) * 255).long(), "63 of 256 levels come back one too low"),
        (lambda x: ((x + 1) / 2 * 255).int(), "one too low"),
        (lambda x: (x * 127.5 + 128).ceil().long(), "one too high"),
        (lambda x: ((x * 0.5 + 0.5) * 255).round(), "still floats"),
        (lambda x: (x * 0.5 + 0.5) * 255, "still floats"),
        (lambda x: x * 0.5 + 0.5, "undoes Normalize"),
        (lambda x: (x * 255).round().long(), "Normalize is not undone"),
        (lambda x: (x * 255).round().clamp(0, 255).to(torch.uint8), "Normalize is not undone"),
        (lambda x: ((x * 0.5 + 0.5) * 256).long(), "not by 256"),
        (lambda x: ((x * 0.5 + 0.5) * 255).ceil().long() + 1, "one too high"),
        (lambda x: (x * 0.5 + 0.5).round().long(), "only 0 and 1"),
        (lambda x: ((x + 0.5) * 0.5 * 255).round().long(), "Level"),
        (lambda x: x.flatten(), "the same shape"),
    ],
)
def test_a_wrong_way_back_is_named_for_what_it_is(answer, diagnosis, capsys):
    check_to_levels(answer)
    printed = capsys.readouterr().out
    assert printed.startswith("✗") and diagnosis in printed


def test_right_answers_pass_and_unsolved_ones_are_met_friendly(capsys):
    check_bits_per_dim(right)
    check_bits_per_dim(lambda z, x: -picked(z.log_softmax(1), x).mean((1, 2)) / math.log(2))
    check_to_levels(lambda x: (x * 127.5 + 127.5).round().to(torch.uint8))
    check_to_levels(lambda x: torch.round((x + 1) / 2 * 255).long())
    check_bits_per_dim(lambda z, x: ...)
    check_to_levels(lambda x: None)
    verdicts = [line[0] for line in capsys.readouterr().out.splitlines()]
    assert verdicts == ["✓"] * 4 + ["✎"] * 2
