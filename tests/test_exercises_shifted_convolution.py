"""Typical answers to the exercises of notebook 09: each wrong one is named for what it is."""

import pytest
import torch
from torch.nn import functional as F

from pixelhelpers.exercises import check_starting_bound, check_without_mask
from pixelhelpers.layers import raster_mask


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_without_mask, check_starting_bound])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


def own(mask_type):
    return int(mask_type == "B")


def above(x, w, lower=0):
    half = w.shape[-1] // 2
    return F.conv2d(F.pad(x, (half, half, half + lower, -1 - lower)), w[:, :, :half])


def beside(x, w, taps, further=0):
    half = w.shape[-1] // 2
    return F.conv2d(F.pad(x, (half + further, taps - 1 - further, 0, 0)), w[:, :, half : half + 1, : half + taps])


def centred(x, w, mask=1):
    return F.conv2d(x, w * mask, padding=w.shape[-1] // 2)


def whole_own_row(x, w):
    half = w.shape[-1] // 2
    return F.conv2d(F.pad(x, (half, half, half, 0)), w[:, :, : half + 1])


def mask_of(w, kind):
    return raster_mask(kind, 1, 1, w.shape[-1])


def two_stages(x, w, kind):
    """Images moved first, then padded kernels: as the package does it."""
    half = w.shape[-1] // 2
    down = F.pad(F.pad(x, (0, 0, 1, -1)), (half, half, half - 1, 0))
    right = x if kind == "B" else F.pad(x, (1, -1))
    taps = half + own(kind)
    return F.conv2d(down, w[:, :, :half]) + F.conv2d(F.pad(right, (taps - 1, 0)), w[:, :, [half], :taps])


def both(x, w, kind):
    return above(x, w) + beside(x, w, own(kind))


def unfolded(x, w, kind):
    """The live taps as a matrix, pixels as columns."""
    size = w.shape[-1]
    alive = size**2 // 2 + own(kind)
    columns = F.unfold(x, size, padding=size // 2).unflatten(1, (x.shape[1], -1))[:, :, :alive]
    return torch.einsum("nitp,oit->nop", columns, w.flatten(2)[..., :alive]).unflatten(2, x.shape[2:])


def cut_off(x, w, kind):
    """Padded generously, and too long a result cut off."""
    half, taps = w.shape[-1] // 2, w.shape[-1] // 2 + own(kind)
    rows = F.conv2d(F.pad(x, (half, half, half, 0)), w[:, :, :half])[:, :, : x.shape[2]]
    return rows + F.conv2d(F.pad(x, (half, 0)), w[:, :, [half], :taps])[..., : x.shape[3]]


def zeroed(x, w, kind):
    half = w.shape[-1] // 2
    w[:, :, half + 1 :] = 0
    w[:, :, half, half + own(kind) :] = 0
    return centred(x, w)


def by_taps_of_all(x, w, kind):
    """Products that no counter sees, with a mask."""
    size, (height, width) = w.shape[-1], x.shape[2:]
    padded, w = F.pad(x, [size // 2] * 4), w * mask_of(w, kind)
    taps = [(row, column) for row in range(size) for column in range(size)]
    moved = (padded[:, None, :, row : row + height, column : column + width] for row, column in taps)
    return sum(
        (part * w[:, :, row, column, None, None]).sum(2) for part, (row, column) in zip(moved, taps, strict=True)
    )


@pytest.mark.parametrize(
    "answer", [both, two_stages, unfolded, cut_off, lambda x, w, kind: both(x.double(), w.double(), kind)]
)
def test_without_mask_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_without_mask, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, w, kind: centred(x, w), "those of the future too"),
        (lambda x, w, kind: centred(x, w, mask_of(w, kind)), "9 taps are multiplied, and 4 are alive"),
        (zeroed, "9 taps are multiplied, and 4 are alive"),
        (lambda x, w, kind: zeroed(x, w.clone(), kind), "9 taps are multiplied, and 4 are alive"),
        (lambda x, w, kind: centred(x, torch.where(mask_of(w, kind), w, 0)), "9 taps are multiplied, and 4 are alive"),
        (lambda x, w, kind: centred(x, w) - centred(x, w, ~mask_of(w, kind)), "18 taps are multiplied"),
        (by_taps_of_all, "still multiplied"),
        (lambda x, w, kind: 2 * both(x, w, kind), "counts twice"),
        (lambda x, w, kind: both(x.mT, w.mT, kind).mT, "order of columns"),
        (lambda x, w, kind: centred(x, w, ~mask_of(w, kind)), "weights of the future, below"),
        (lambda x, w, kind: both(x, w.detach(), kind), "no gradient comes back to `weight`"),
        (lambda x, w, kind: both(x.detach(), w, kind), "no gradient comes back to `x`"),
        (lambda x, w, kind: above(x, w), "own row is missing"),
        (lambda x, w, kind: beside(x, w, own(kind)), "rows above are missing"),
        (lambda x, w, kind: above(x, w) + beside(x, w, 1), "seen in type A"),
        (lambda x, w, kind: above(x, w) + beside(x, w, 0), "missing in type B"),
        (lambda x, w, kind: above(x, w) + beside(x, w, own(kind), 1), "too far to the left"),
        (lambda x, w, kind: above(x, w) + beside(x, w, own(kind), -1), "too far to the right"),
        (lambda x, w, kind: above(x, w, -1) + beside(x, w, own(kind)), "were not moved down"),
        (lambda x, w, kind: above(x, w, 1) + beside(x, w, own(kind)), "moved down twice"),
        (lambda x, w, kind: whole_own_row(x, w), "open on the right, too"),
        (lambda x, w, kind: centred(x, w.flip(2, 3), mask_of(w, kind)), "flipped"),
        (lambda x, w, kind: centred(x, w, mask_of(w, kind).flip(2, 3)), "weights of the future, below"),
        (
            lambda x, w, kind: centred(x, w, mask_of(w, kind) & (torch.arange(w.shape[-1]) <= w.shape[-1] // 2)),
            "in full width",
        ),
        (lambda x, w, kind: above(x, w)[:, :, 1:], "as many rows and columns as came in"),
        (lambda x, w, kind: (above(x, w), beside(x, w, own(kind))), "you return tuple"),
        (lambda x, w, kind: above(x, w) - beside(x, w, own(kind)), "single bright pixel"),
        (lambda x, w, kind: F.conv2d(x, w[0]), "raised RuntimeError"),
    ],
)
def test_without_mask_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_without_mask, answer)
    assert said.startswith("✗") and words in said


@pytest.mark.parametrize(
    "answer",
    [
        lambda mask: mask.sum((1, 2, 3)).clamp(min=1).rsqrt(),
        lambda mask: torch.nan_to_num(mask.sum((1, 2, 3)).rsqrt(), posinf=0),
        lambda mask: mask.double().flatten(1).sum(1).clamp(min=1) ** -0.5,
        lambda mask: torch.stack([1 / max(int(m.sum()), 1) ** 0.5 * torch.ones(()) for m in mask]),
    ],
)
def test_starting_bound_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_starting_bound, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda mask: torch.full((len(mask),), mask[0].numel()).rsqrt(), "Dead taps are counted: 49 in place of 24"),
        (lambda mask: mask.float().mean((1, 2, 3)).rsqrt(), "share of live taps"),
        (lambda mask: 1 / mask.sum((1, 2, 3)).clamp(min=1), "square root is missing"),
        (lambda mask: mask.sum((1, 2, 3)).sqrt(), "the more inputs"),
        (lambda mask: mask.sum((1, 2, 3)), "number of live taps"),
        (lambda mask: mask.sum((1, 2, 3)).rsqrt(), "no finite number"),
        (lambda mask: mask[:, 0].sum((1, 2)).clamp(min=1).rsqrt(), "Only one input feature"),
        (
            lambda mask: torch.ones(len(mask)) * mask.sum((1, 2, 3)).double().mean().clamp(min=1).rsqrt(),
            "All outputs get the same bound",
        ),
        (lambda mask: torch.ones(len(mask)) * mask[0].sum().clamp(min=1).rsqrt(), "All outputs get the same bound"),
        (lambda mask: torch.ones(len(mask)) * mask[-1].sum().rsqrt(), "All outputs get the same bound"),
        (lambda mask: torch.ones(len(mask)) * mask.sum((1, 2, 3)).max().rsqrt(), "All outputs get the same bound"),
        (lambda mask: torch.nan_to_num(mask.sum((1, 2, 3)).rsqrt()), "no weight should start there"),
        (lambda mask: (mask.sum((1, 2, 3)) + 1e-12).rsqrt(), "no weight should start there"),
        (lambda mask: (~mask).sum((1, 2, 3)).clamp(min=1).rsqrt(), "1 / √ of that number"),
        (lambda mask: torch.ones(len(mask)) * mask.sum().rsqrt(), "of all outputs are added up"),
        (lambda mask: mask.sum().rsqrt(), "one bound per output"),
        (lambda mask: 0.2, "you return float"),
        (lambda mask: 2 * mask.sum((1, 2, 3)).clamp(min=1).rsqrt(), "1 / √ of that number"),
        (lambda mask: mask.no_such, "raised AttributeError"),
    ],
)
def test_starting_bound_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_starting_bound, answer)
    assert said.startswith("✗") and words in said
