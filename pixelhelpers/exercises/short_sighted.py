"""Checks of notebook 06: pixels that a stack of kernels misses, holes in a region, a network without any."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import CausalityError
from ..layers import raster_mask
from ..probes import blind_spot, check_causal, reached_window, receptive_field
from .verdict import Mistake, ask, exercise


def _missed(kernels: Sequence[int]) -> int:
    """Adds up, over the rows above, the columns on the right that no path reaches."""
    halves = sorted((kernel // 2 for kernel in kernels), reverse=True)
    reach = sum(halves)
    return sum(reach - sum(halves[:up]) for up in range(1, reach + 1))


@exercise
def check_missed(answer: Callable[[list[int]], int]) -> str:
    """Checks a function that counts the blind spot of a stack of masked convolutions from its kernels.

    Arguments:
        answer: takes the odd sides of the kernels, first layer first; returns the number of pixels in the
            rows above that lie within reach and are never seen, far from the border of the image.

    Example:
        >>> check_missed(lambda kernels: len(kernels) * (len(kernels) - 1) // 2)
        ✗ Not yet. For [5, 5, 5] you say 3: you count layers. Each step of theirs is as wide as half their kernel.
    """
    given = {}
    for kernels in _STACKS:
        result = ask(answer, list(kernels))
        if isinstance(result, Tensor) and result.numel() == 1:
            result = result.item()
        if not isinstance(result, int | float) or isinstance(result, bool):
            raise Mistake(f"The answer is a {type(result).__name__}: return a number.")
        given[kernels] = result
    wrong = [kernels for kernels in _STACKS if given[kernels] != _missed(kernels)]
    if not wrong:
        return "Right for any kernels, in any order: what counts is how wide the widest steps are."
    said = f"For {list(wrong[0])} you say {given[wrong[0]]:g}"
    if len(set(given.values())) == 1:
        raise Mistake(f"{said}, as for any other list: count from the kernels that you are given.")
    for words, mistaken in _MISCOUNTS.items():
        if all(math.isclose(given[kernels], mistaken(kernels)) for kernels in _STACKS):
            raise Mistake(f"{said}: {words}")
    raise Mistake(f"{said}. Draw what is seen one row up, then two rows up, and count what is missing in each.")


_STACKS = ((3,) * 7, (7, 3, 3, 3, 3, 3), (7,), (5, 5, 5), (9, 3, 3, 3), (3, 3, 9, 5), (3, 7))


def _halves(kernels: Sequence[int]) -> list[int]:
    return [kernel // 2 for kernel in kernels]


def _by_rows(steps: Sequence[int], layers: int = 0) -> int:
    """Adds up over the rows what is out of reach when row r is reached by the first r + `layers` steps."""
    reach = sum(steps)
    return sum(reach - sum(steps[: up + layers]) for up in range(1, reach + 1))


def _widest_first(kernels: Sequence[int]) -> list[int]:
    return sorted(_halves(kernels), reverse=True)


def _above(kernels: Sequence[int]) -> int:
    reach = sum(_halves(kernels))
    return reach * (2 * reach + 1)


def _one_size(half: Callable[[list[int]], float]) -> Callable[[Sequence[int]], float]:
    return lambda kernels: half(_halves(kernels)) * len(kernels) * (len(kernels) - 1) / 2


_ONE_SIZE = "the section's formula is for kernels of one size. Where they differ, count row by row."
_MISCOUNTS: dict[str, Callable[[Sequence[int]], float]] = {
    "you count layers. Each step of theirs is as wide as half their kernel.": _one_size(lambda halves: 1),
    _ONE_SIZE: _one_size(lambda halves: halves[0]),
    f"{_ONE_SIZE} (You take the last one's.)": _one_size(lambda halves: halves[-1]),
    f"{_ONE_SIZE} (You take the largest one's.)": _one_size(max),
    f"{_ONE_SIZE} (You take the mean of all.)": _one_size(lambda halves: sum(halves) / len(halves)),
    "you take the narrowest steps first. One row up, the widest of all layers may be taken.": lambda k: _by_rows(
        sorted(_halves(k))
    ),
    "the widest step may come first, wherever its layer stands: one row up, any layer may take you there.": lambda k: (
        _by_rows(_halves(k))
    ),
    "you halve the sum of the sides. Each kernel reaches its own side // 2, and these add up.": lambda k: sum(
        sum(k) // 2 - sum(_widest_first(k)[:up]) for up in range(1, sum(k) // 2 + 1)
    ),
    "you take whole sides. A kernel reaches half of its side, rounded down, to each side.": lambda k: _by_rows(
        sorted(k, reverse=True)
    ),
    "you round half a side up. The middle of a kernel is the pixel itself, and is no step.": lambda k: _by_rows(
        sorted(((side + 1) // 2 for side in k), reverse=True)
    ),
    "that is what is seen of the rows above. Asked for is what is missed.": lambda k: _above(k) - _missed(k),
    "that is all that lies within reach above. How much of it is missed?": _above,
    "there is a hole on the right only; to the left, every pixel within reach is seen.": lambda k: 2 * _missed(k),
    "that is how far the stack reaches. How many pixels within that reach are missed?": lambda k: sum(_halves(k)),
    "that is how many layers there are.": len,
    "you count as if all kernels were 3 x 3. A wider one goes several columns to the right and only one row up.": (
        lambda k: math.comb(sum(_halves(k)), 2)
    ),
    "you take the region to be cut off right above the pixel. One row up it reaches to the right already.": lambda k: (
        math.comb(sum(_halves(k)) + 1, 2)
    ),
    "to go up by r rows takes r layers, not r - 1, and each of the r may step to the right. (Or do you count the "
    "pixel's own row? It is not above.)": lambda k: _missed(k) + sum(_halves(k)),
    "to go up by r rows takes only r layers: you use one more.": lambda k: _by_rows(_widest_first(k), layers=1),
    "you are off by one: what does your sum begin with, and what does it end with?": lambda k: _missed(k) + 1,
    "you are off by one. What does your sum begin with, and what does it end with?": lambda k: _missed(k) - 1,
    "that is their share. Return how many they are.": lambda k: _missed(k) / _above(k),
    "no number of pixels is negative. In which order did you subtract?": lambda k: -_missed(k),
}


def _region(types: str, at: tuple[int, int], shape: tuple[int, int], size: int = 3) -> Tensor:
    """Walks from a pixel back to the image, layer by layer."""
    seen = {at}
    for kind in reversed(types):
        taps = (raster_mask(kind, 1, 1, size)[0, 0].nonzero() - size // 2).tolist()
        seen = {(row + down, column + right) for row, column in seen for down, right in taps}
    region = torch.zeros(shape, dtype=torch.bool)
    for row, column in seen:
        if 0 <= row < shape[0] and 0 <= column < shape[1]:
            region[row, column] = True
    return region


def _regions() -> list[tuple[str, Tensor, tuple[int, int]]]:
    """Lists what a pixel may see: a name, bool `[H, W]`, and (row, column)."""
    rows, columns = torch.arange(12)[:, None], torch.arange(15)
    full = ((rows >= 5) & (rows < 8) & (columns >= 4) & (columns <= 10)) | (
        (rows == 8) & (columns >= 4) & (columns < 7)
    )
    quarter = full & (columns <= 7)
    tall = (rows >= 3) & (rows < 8) & (columns >= 6) & (columns <= 8)
    return [
        ("four 3 x 3 layers, in the middle", _region("ABBB", (8, 7), (12, 15)), (8, 7)),
        ("the same near the right border", _region("ABBB", (8, 12), (12, 15)), (8, 12)),
        ("the same near the left border", _region("ABBB", (6, 1), (12, 15)), (6, 1)),
        ("a region without a hole", full, (8, 7)),
        ("a region that is tall and narrow", tall, (8, 7)),
        ("four layers of type A", _region("AAAA", (8, 7), (12, 15)), (8, 7)),
        ("masks that open only the upper left", quarter, (8, 7)),
        ("the first pixel, which sees nothing", _region("ABBB", (0, 0), (12, 15)), (0, 0)),
    ]


@exercise
def check_holes(answer: Callable[[Tensor, tuple[int, int]], Tensor]) -> str:
    """Checks a function that finds the blind spot in what a pixel sees.

    Arguments:
        answer: takes `seen`, bool `[H, W]`, and `at`, (row, column); returns bool `[H, W]`: the earlier
            pixels within the reached window that are not seen.

    Example:
        >>> check_holes(lambda seen, at: ~seen)  # doctest: +ELLIPSIS
        ✗ Not yet. For four 3 x 3 layers, in the middle: the pixel at (8, 7) itself is among your holes...
    """
    for name, seen, at in _regions():
        try:
            result = ask(answer, seen.clone(), at)
        except (RuntimeError, IndexError, ValueError) as error:
            if seen.any():
                raise
            raise Mistake(
                f"Your code raised {type(error).__name__} for {name}: its window is the pixel alone, without a hole."
            ) from error
        if not isinstance(result, Tensor) or result.dtype != torch.bool or result.shape != seen.shape:
            kind = f"{result.dtype} {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise Mistake(f"Your function returned {kind}: return a tensor of bool, {tuple(seen.shape)}.")
        row, column = at
        earlier = torch.arange(seen.numel()).view(seen.shape) < row * seen.shape[1] + column
        window = reached_window(seen, at)
        right = window & earlier & ~seen
        if torch.equal(result, right):
            continue
        raise Mistake(f"For {name}: {_what(result, right, seen, earlier, window, at)}")
    return "Every hole and nothing else, in the middle and at the border, with any region."


def _swapped(seen: Tensor, at: tuple[int, int]) -> Tensor:
    """The holes that somebody finds who takes the row for the column."""
    earlier = torch.arange(seen.numel()).view(seen.shape) < at[1] * seen.shape[1] + at[0]
    places = torch.cat([seen.nonzero(), torch.tensor([at[::-1]])])
    rows, columns = torch.arange(seen.shape[0])[:, None], torch.arange(seen.shape[1])
    near = (columns - at[0]).abs() <= (places[:, 1] - at[0]).abs().max()
    return earlier & (rows >= places[:, 0].min()) & near & ~seen


def _what(result: Tensor, right: Tensor, seen: Tensor, earlier: Tensor, window: Tensor, at: tuple[int, int]) -> str:
    """Names the mistake in a region of holes."""
    row, column = at
    rows, columns = torch.arange(seen.shape[0])[:, None], torch.arange(seen.shape[1])
    rightmost = int((seen.any(0) * columns).max())
    if result[row, column]:
        return f"the pixel at {at} itself is among your holes. It is not earlier than itself."
    if torch.equal(result, _swapped(seen, at)):
        return "row and column are swapped: `at` is (row, column)."
    if (result & seen).any():
        return "some of your holes are seen."
    if (result & ~earlier).any():
        return "some of your holes come later in raster order. Not to see them is right."
    if torch.equal(result, earlier & ~seen):
        return "you mark all earlier pixels that are not seen. What lies beyond the window, more layers would reach."
    if torch.equal(result, right & (rows < row)):
        return "holes on the pixel's own row are missing: there, what lies to the left of it is earlier, too."
    if torch.equal(result, right & (columns <= max(rightmost, column))):
        return (
            "your window ends with the rightmost pixel that is seen. It is as wide to the right as to the left, "
            "or a network that never looks to the right would have no hole there."
        )
    places = torch.cat([seen.nonzero(), torch.tensor([at])])
    far_up, far_left = row - int(places[:, 0].min()), column - int(places[:, 1].min())
    far = max(far_up, int((places[:, 1] - column).abs().max()))
    aside, candidates = (columns - column).abs(), earlier & ~seen
    if torch.equal(result, candidates & (rows >= row - far) & (aside <= far)):
        return "your window is square. How far up and how far to the sides are two measures."
    if torch.equal(result, candidates & (rows >= row - far_up) & (aside <= far_left)):
        return (
            f"you mark {int(result.sum())} of {int(right.sum())} holes. Measure on both sides: near the left border "
            "the region reaches further to the right."
        )
    for words, window_of_another in (
        (
            "your window ends one row too early: the furthest row that is seen belongs to it.",
            candidates & (rows > row - far_up) & window,
        ),
        (
            "your window ends one column too early: the furthest column that is seen belongs to it.",
            candidates & (aside < aside[places[:, 1]].max()) & window,
        ),
    ):
        if torch.equal(result, window_of_another):
            return words
    beyond = (result & ~window).nonzero().tolist()
    if beyond:
        return f"{tuple(beyond[0])} lies beyond the window: measure how far the region reaches, and no further."
    return f"you mark {int(result.sum())} of {int(right.sum())} holes."


@exercise
def check_no_hole(answer: Callable[[Tensor], Tensor]) -> str:
    """Checks a causal network that misses nothing within its window.

    Arguments:
        answer: maps images `[N, 1, H, W]` to features `[N, C, H, W]`; from every pixel it sees all that is drawn
            before, at least five rows up and five columns to either side.

    Example:
        >>> from pixelhelpers.layers import MaskedConv2d
        >>> check_no_hole(MaskedConv2d("A", 1, 4, 7))
        ✗ Not yet. It is causal, but looks 3 rows up, 3 columns to the left and 3 to the right: 5 are asked for.
    """
    if not callable(answer):
        raise Mistake(f"You give a {type(answer).__name__}: give a network, images in and features out.")
    at, shape, far = (9, 8), (1, 18, 18), 5
    features = answer(torch.randint(256, (2, *shape)).float())
    if not isinstance(features, Tensor) or features.ndim != 4 or features.shape[2:] != shape[1:]:
        given = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise Mistake(f"From images (2, 1, 18, 18) it makes {given}: make features for each pixel, (2, C, 18, 18).")
    try:
        check_causal(answer, (1, 8, 8))
    except CausalityError as error:
        raise Mistake(f"It is not causal: {str(error).splitlines()[0]}") from None
    for place in (at, (12, 6)):
        seen, holes = (question(answer, place, shape) for question in (receptive_field, blind_spot))
        rows, columns = seen.nonzero().T
        up, left, right = place[0] - rows.min(), place[1] - columns.min(), columns.max() - place[1]
        if min(up, left, right) < far:
            raise Mistake(
                f"It is causal, but looks {max(0, up)} rows up, {max(0, left)} columns to the left and {max(0, right)} "
                f"to the right: {far} are asked for."
            )
        if holes.any():
            row, column = holes.nonzero()[-1].tolist()
            raise Mistake(
                f"It is causal and looks far enough, but the pixel at {place} misses {int(holes.sum())} of the pixels "
                f"within its window. One of them is {(row, column)}."
            )
    return "Causal, and not one hole as far as it looks."
