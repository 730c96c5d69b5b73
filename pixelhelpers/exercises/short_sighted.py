"""Checks of notebook 06: pixels that a stack of kernels misses, holes in a region."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..layers import raster_mask
from ..probes import reached_window
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
    cases = ([3] * 7, [7, 3, 3, 3, 3, 3], [7], [5, 5, 5], [9, 3, 3, 3], [3, 3, 9, 5], [3, 7])
    for kernels in cases:
        result = ask(answer, list(kernels))
        if isinstance(result, Tensor) and result.numel() == 1:
            result = result.item()
        if not isinstance(result, int | float) or isinstance(result, bool):
            raise Mistake(f"The answer is a {type(result).__name__}: return a number.")
        right = _missed(kernels)
        if result != right:
            raise Mistake(f"For {kernels} you say {result:g}: {_why(kernels, result, right)}")
    return "Right for any kernels, in any order: what counts is how wide the widest steps are."


def _widest(halves: list[int], up: int) -> int:
    return sum(sorted(halves, reverse=True)[:up])


def _why(kernels: list[int], result: float, right: int) -> str:
    halves = [kernel // 2 for kernel in kernels]
    reach, layers = sum(halves), len(kernels)
    above = reach * (2 * reach + 1)
    in_turn, narrowest = (
        sum(reach - sum(steps[:up]) for up in range(1, reach + 1)) for steps in (halves, sorted(halves))
    )
    too_far = sum(kernels) // 2
    one_size = "the section's formula is for kernels of one size. Where they differ, count row by row."
    mistakes = {
        halves[0] * layers * (layers - 1) // 2: one_size,
        halves[-1] * layers * (layers - 1) // 2: one_size,
        reach * (layers - 1) / 2: one_size,  # with the mean of their halves
        narrowest: "you take the narrowest steps first. One row up, the widest of all layers may be taken.",
        sum(too_far - _widest(halves, up) for up in range(1, too_far + 1)): (
            "you halve the sum of the sides. Each kernel reaches its own side // 2, and these add up."
        ),
        above - right: "that is what is seen of the rows above. Asked for is what is missed.",
        above: "that is all that lies within reach above. How much of it is missed?",
        2 * right: "there is a hole on the right only; to the left, every pixel within reach is seen.",
        reach * (reach - 1) // 2: (
            "you count as if all kernels were 3 x 3. A wider one goes several columns to the right and only one row up."
        ),
        reach * (reach + 1) // 2: (
            "you take the region to be cut off right above the pixel. One row up it reaches to the right already."
        ),
        layers * (layers - 1) // 2: "you count layers. Each step of theirs is as wide as half their kernel.",
        in_turn: "the widest step may come first, wherever its layer stands: one row up, any layer may take you there.",
        right / above if above else -1: "that is their share. Return how many they are.",
    }
    return mistakes.get(result, f"it is {right}.")


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


def _what(result: Tensor, right: Tensor, seen: Tensor, earlier: Tensor, window: Tensor, at: tuple[int, int]) -> str:
    """Names the mistake in a region of holes."""
    row, column = at
    rows, columns = torch.arange(seen.shape[0])[:, None], torch.arange(seen.shape[1])
    rightmost = int((seen.any(0) * columns).max())
    if result[row, column]:
        return f"the pixel at {at} itself is among your holes. It is not earlier than itself."
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
    beyond = (result & ~window).nonzero().tolist()
    if beyond:
        return f"{tuple(beyond[0])} lies beyond the window: measure how far the region reaches, and no further."
    return f"you mark {int(result.sum())} of {int(right.sum())} holes."
