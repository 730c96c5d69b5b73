"""Checks of notebook 12: the order of a multiscale model, the price of independence, another order."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .verdict import Mistake, ask, exercise, of_shape

GROUPS = {"upper right": (0, 1), "lower left": (1, 0), "lower right": (1, 1)}  # where in a square of 2x2


def _ranks(
    height: int,
    width: int,
    doublings: int,
    *,
    groups: tuple = tuple(GROUPS.values()),
    finest_first: bool = False,
    turns: Callable[[int, int], int] = lambda doubling, number: 3 * doubling + number,
    together: bool = True,
    too_dense: bool = False,
    first: Callable[[int, int], Tensor] = lambda rows, columns: torch.arange(rows * columns).view(rows, columns),
) -> Tensor:
    """The ranks, or those of a typical mistake."""
    coarsest = 2**doublings
    rank = torch.zeros(height, width, dtype=torch.long)
    base = first(height // coarsest, width // coarsest)
    rank[::coarsest, ::coarsest] = base
    following = int(base.max()) + 1
    for doubling in range(doublings):
        step = 2 ** (doubling + 1 if finest_first else doublings - doubling)
        half = step // 2
        for number, (row, column) in enumerate(groups):
            apart = half if too_dense else step
            lattice = rank[row * half :: apart, column * half :: apart]
            if together:
                lattice[:] = following + turns(doubling, number)
            else:
                lattice[:] = following + torch.arange(lattice.numel()).view(lattice.shape)
                following += lattice.numel()
    return rank


def _in_the_corner(height: int, width: int, doublings: int) -> Tensor:
    """The smallest image as the upper left corner, the larger ones around it."""
    rows, columns = height // 2**doublings, width // 2**doublings
    rank = torch.arange(rows * columns).view(rows, columns)
    for _ in range(doublings):
        last = int(rank.max())
        right, below, both = (torch.full_like(rank, last + number) for number in (1, 2, 3))
        rank = torch.cat([torch.cat([rank, right], 1), torch.cat([below, both], 1)], 0)
    return rank


@exercise
def check_ranks(answer: Callable[[int, int, int], Tensor]) -> str:
    """Checks the turn in which a multiscale model draws each pixel.

    Arguments:
        answer: takes height, width and the number of doublings; returns integers `[height, width]`, the smallest
            image in raster order from 0, then one number for each group.

    Example:
        >>> check_ranks(lambda height, width, doublings: torch.arange(height * width).view(height, width))
        ✗ Not yet. This is raster order, a turn for every pixel: the pixels of a group share one.
    """
    for height, width, doublings in ((28, 28, 2), (8, 12, 1), (24, 16, 3)):
        right = _ranks(height, width, doublings)
        result = ask(answer, height, width, doublings)
        if not isinstance(result, Tensor) or result.shape != right.shape:
            kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise Mistake(
                f"For {height} × {width} pixels and {doublings} doubling{'s' * (doublings > 1)} you return {kind}: "
                f"return a tensor ({height}, {width})."
            )
        if torch.equal(result.long(), right):
            if result.dtype != torch.int64:
                raise Mistake(f"The ranks are right, but they are {result.dtype}: int64 is asked for.")
            continue
        result = result.long()
        rows, columns = height // 2**doublings, width // 2**doublings
        task = f"For {height} × {width} pixels and {doublings} doubling{'s' * (doublings > 1)}"
        variants = (
            (
                torch.arange(height * width).view(height, width),
                "This is raster order, a turn for every pixel: the pixels of a group share one.",
            ),
            (right.max() - right, "The last one comes first: you count backwards."),
            (
                _ranks(width, height, doublings).mT,
                "Height and width are swapped: the smallest image goes column by column, and so do the groups.",
            ),
            (
                torch.where(right < rows * columns, right, right - rows * columns),
                "The groups count from 0 again: they go on where the smallest image has stopped.",
            ),
            (
                _ranks(height, width, doublings - 1),
                "One doubling too few: the smallest image has every 2^doublings-th pixel of every 2^doublings-th row.",
            ),
            (right + 1, "You count from 1: the first pixel has rank 0."),
            (
                _ranks(height, width, doublings, together=False),
                "The pixels of a group follow each other: they are drawn together, in one turn.",
            ),
            (
                right - (right >= rows * columns).long(),
                "The first group shares the rank of the last pixel of the smallest image: it goes on one higher.",
            ),
            *(
                (
                    _ranks(height, width, doublings, groups=tuple(GROUPS[name] for name in names)),
                    f"Your groups are {', '.join(names)}: the order is {', '.join(GROUPS)}.",
                )
                for names in list(itertools.permutations(GROUPS))[1:]
            ),
            (
                _ranks(height, width, doublings, too_dense=True),
                "You write with steps of `half`, which overwrites pixels that are there: a group's pixels are a whole "
                "`step` apart.",
            ),
            (
                _ranks(height, width, doublings, turns=lambda doubling, number: doubling),
                "The three groups of a doubling share a turn: each sees the one before it, so each has its own.",
            ),
            (
                _ranks(height, width, doublings, turns=lambda doubling, number: number),
                "Every doubling begins with the same rank: the second one goes on where the first has stopped.",
            ),
            (
                _ranks(height, width, doublings, finest_first=True),
                "The finest pixels come first: the distance begins at 2^doublings and is halved each time.",
            ),
            (
                _ranks(height, width, doublings, first=lambda rows, columns: torch.zeros(rows, columns).long()),
                "The smallest image is drawn in one turn: it goes pixel by pixel.",
            ),
            (
                _ranks(
                    height, width, doublings, first=lambda rows, columns: torch.arange(rows * columns).view(-1, rows).T
                ),
                "The smallest image goes column by column: raster order goes row by row.",
            ),
            (
                _in_the_corner(height, width, doublings),
                "The smallest image stands in the upper left corner: its pixels are spread over the large one, one in "
                "2^doublings in both directions.",
            ),
        )
        for wrong, words in variants:
            if torch.equal(result, wrong):
                raise Mistake(words)
        row, column = (result != right).nonzero()[0].tolist()
        small = result[:: 2**doublings, :: 2**doublings], right[:: 2**doublings, :: 2**doublings]
        if torch.equal(*small):
            raise Mistake(
                f"{task} the smallest image is right. But the pixel in row {row}, column {column} should have rank "
                f"{int(right[row, column])}, you give it {int(result[row, column])}."
            )
        raise Mistake(
            f"{task} the smallest image, one pixel in {2**doublings} of one row in {2**doublings}, should have the "
            f"ranks 0 to {rows * columns - 1}."
        )
    return "One rank for each pixel of the smallest image, then one for each group, at any size."


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum() / math.log(2)


@exercise
def check_price(answer: Callable[[Tensor], float]) -> str:
    """Checks the bits that a model pays for calling two pixels independent.

    Arguments:
        answer: takes the probabilities of all pairs of levels, `[levels of one pixel, levels of the other]`;
            returns the bits that the best independent model pays more than the true one, on average.

    Example:
        >>> check_price(lambda joint: -(joint * joint.log2()).nansum())
        ✗ Not yet. This is what the true model pays for both pixels: the question is how much more the other pays.
    """
    generator = torch.Generator().manual_seed(0)
    uneven = torch.rand(3, 5, generator=generator, dtype=torch.float64).square()
    tables = (
        uneven / uneven.sum(),
        torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64),
        torch.eye(2, dtype=torch.float64) / 2,
        torch.outer(*(torch.tensor([0.9, 0.1], dtype=torch.float64),) * 2),
    )
    for joint in tables:
        one, other, both = _entropy(joint.sum(1)), _entropy(joint.sum(0)), _entropy(joint)
        right = one + other - both
        result = ask(answer, joint.clone())
        if (isinstance(result, Tensor) and result.numel() != 1) or not isinstance(result, Tensor | float | int):
            kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise Mistake(f"From a table {tuple(joint.shape)} you return {kind}: return one number, in bits.")
        result = float(result)
        if math.isclose(result, right, abs_tol=1e-5):
            continue
        if math.isnan(result) and (joint == 0).any():
            raise Mistake("0 · log 0 became NaN: a pair that never occurs costs nothing. Leave such pairs out.")
        if math.isinf(result) and (joint == 0).any():
            raise Mistake(
                "The price became infinite: weigh with the true probabilities, and a pair that never occurs costs "
                "nothing."
            )
        apart = torch.outer(joint.sum(1), joint.sum(0))
        for wrong, words in (
            (right * math.log(2), "This is in nats: a bit is a logarithm to base 2."),
            (-right, "The sign is the wrong way round: the independent model pays more, never less."),
            (right / 2, "This is the price of one pixel: give that of the pair."),
            (
                both,
                "This is what the true model pays for both pixels: the question is how much more the other pays.",
            ),
            (
                one + other,
                "This is all that the independent model pays: subtract what the true model pays for the pair.",
            ),
            (
                both - one,
                "This is what the second pixel costs when the first is known: compare with what it costs when it is "
                "not.",
            ),
            (
                both - other,
                "This is what the first pixel costs when the second is known: compare with what it costs when it is "
                "not.",
            ),
            (
                (apart * (apart / joint).log2()).nansum(),
                "The average is over pairs that the independent model draws: real pairs come with the probabilities "
                "in the table.",
            ),
            (
                math.log2(joint.numel()) - both,
                "You compare with a model that takes all levels for equally likely: the best independent one knows "
                "how often each level occurs.",
            ),
            *(
                (
                    right / whole,
                    "You divide by an entropy, which gives a share: the price itself is asked for, in bits.",
                )
                for whole in (one, other, both, (one + other) / 2, torch.minimum(one, other), (one * other).sqrt())
            ),
            (
                (joint * (joint / apart).log2()).nansum() / (joint > 0).sum(),
                "This is divided by the number of pairs: the probabilities weigh them already, so add up.",
            ),
            (
                (joint * (joint / apart).log2()).nansum() / joint.numel(),
                "This is divided by the number of pairs: the probabilities weigh them already, so add up.",
            ),
            (
                (joint / apart).log2().nan_to_num(0, 0, 0).mean(),
                "All pairs count alike: weigh each with its probability.",
            ),
        ):
            if math.isclose(result, float(wrong), abs_tol=1e-5):
                raise Mistake(words)
        raise Mistake(
            f"For the table {[[round(float(p), 2) for p in row] for row in joint]} you return {result:.3f} bits. "
            f"What the independent model pays for each pixel is {float(one):.3f} and {float(other):.3f} bits."
        )
    return "The mutual information: 1 bit for two coins that always agree, 0 for two that know nothing of each other."


@exercise
def check_own_order(answer: Callable[[int, int], Tensor]) -> str:
    """Checks an order in which many pixels are drawn at once, but no neighbours, and none from nothing.

    Arguments:
        answer: takes height and width; returns int64 `[height, width]`, in which turn each pixel is drawn: one pixel in
            turn 0, every other one next to a pixel that is there (of the eight around it), no two neighbours in one
            turn, and fewer than 55 turns for 28 × 28.

    Example:
        >>> check_own_order(lambda height, width: torch.arange(height * width).view(height, width))
        ✗ Not yet. All rules are kept, in 784 turns. The multiscale model takes 55: draw more pixels at once.
    """
    turns = 0
    for height, width in ((28, 28), (20, 26)):
        rank = of_shape(ask(answer, height, width), (height, width), "a turn for each pixel")
        if rank.dtype != torch.int64:
            raise Mistake(f"The turns are {rank.dtype}: int64 is asked for.")
        first = (rank == 0).nonzero().tolist()
        if rank.min() != 0 or len(first) != 1:
            raise Mistake(
                f"{len(first)} pixels are drawn in turn 0, and the first turn is {int(rank.min())}: begin with one "
                "pixel in turn 0."
            )
        number = len(rank.unique())
        if int(rank.max()) != number - 1:
            raise Mistake(f"The last turn is {int(rank.max())}, but only {number} are used: leave none out.")
        around = F.pad(rank, (1, 1, 1, 1), value=number).unfold(0, 3, 1).unfold(1, 3, 1).flatten(2)
        around = torch.cat([around[..., :4], around[..., 5:]], -1)
        same, alone = (around == rank[..., None]).any(-1), (around >= rank[..., None]).all(-1) & (rank > 0)
        if same.any():
            row, column = same.nonzero()[0].tolist()
            raise Mistake(
                f"The pixel at {(row, column)} is drawn together with one right beside it, or at its corner (turn "
                f"{int(rank[row, column])}): neighbours would not know of each other."
            )
        if alone.any():
            row, column = alone.nonzero()[0].tolist()
            raise Mistake(
                f"When the pixel at {(row, column)} is drawn (turn {int(rank[row, column])}), none of the eight around "
                "it is there yet."
            )
        turns = turns or number
        if number >= 55:
            raise Mistake(
                f"All rules are kept, in {number} turns. The multiscale model takes 55: draw more pixels at once."
            )
    return f"{turns} turns for 28 × 28, no neighbours in one of them, and each pixel has somebody to go by."
