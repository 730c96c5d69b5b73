"""Checks of notebook 05: fronts, fixed-point iteration."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..wavefront import Wavefront
from .verdict import Mistake, ask, exercise


@exercise
def check_turns_needed(answer: Callable[[int, int, int], int]) -> str:
    """Checks a function that counts the turns in which an image can be drawn.

    Arguments:
        answer: takes the height, the width and the odd side of the widest masked kernel; returns
            the number of fronts.

    Example:
        >>> check_turns_needed(lambda height, width, kernel_size: height * width)
        ✗ Not yet. For 28 x 28 and kernel 7 you say 784: that is pixel by pixel. A front holds several.
        >>> check_turns_needed(
        ...     lambda height, width, k: width + min(k // 2 + 1, width) * (height - 1)
        ... )
        ✓ 136 turns for 784 pixels, and right for small and narrow images, too.
    """
    cases = ((28, 28, 7), (16, 16, 3), (10, 40, 5), (40, 10, 5), (1, 9, 7), (9, 1, 3), (6, 3, 9))
    for height, width, kernel_size in cases:
        result = ask(answer, height, width, kernel_size)
        lag = kernel_size // 2 + 1
        right = len(Wavefront(1, (1, height, width), lag, like=torch.zeros(())))
        if isinstance(result, Tensor) and result.numel() == 1:
            result = result.item()
        if not isinstance(result, int | float) or isinstance(result, bool):
            raise Mistake(f"The answer is a {type(result).__name__}: return a number.")
        if result == right:
            continue
        case = f"For {height} x {width} and kernel {kernel_size} you say {result:g}:"
        lag_in_image = min(lag, width)
        mistakes = {
            height * width: "that is pixel by pixel. A front holds several.",
            width + (lag - 1) * (height - 1): (
                f"a lag of {lag - 1} is one too small. The kernel looks {kernel_size // 2} columns to the right, and "
                "the last of them must be there *before* the turn."
            ),
            width + kernel_size * (height - 1): (
                "the lag is not the kernel's side: only its right half, and the column itself, matter."
            ),
            width + lag * height: "the last row is counted twice. The first row begins at turn 0.",
            width - 1 + lag_in_image * (height - 1): (
                "that is the number of the last turn. The first one has the number 0."
            ),
            height + lag * (width - 1): "height and width are exchanged: rows are drawn from left to right.",
            width + lag * (height - 1): (
                f"a lag of {lag} in an image of {width} columns would let turns pass in which nothing is drawn. A row "
                "can be no further ahead than to its end."
            ),
            1: "all pixels at once would be a fixed-point pass, and the first one is not right.",
        }
        raise Mistake(f"{case} {mistakes.get(result, f'it is {right}.')}")
    return "136 turns for 784 pixels, and right for small and narrow images, too."


class _Redraw:
    """A map with one fixed point, reached from zeros after `passes` calls; or that changes one value per call."""

    def __init__(self, target: Tensor, in_place: bool, per_pass: int):
        self.target, self.in_place, self.per_pass, self.calls = target, in_place, per_pass, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 200:
            raise Mistake("redraw was called more than 200 times, long after nothing changed: compare and stop.")
        flat, target = x.flatten(), self.target.flatten()
        right = int((flat != target).nonzero()[0]) if not torch.equal(flat, target) else len(flat)
        if not self.in_place:
            x = x.clone()
        # As in a causal model: a value is redrawn rightly when all before it are right.
        x.view(-1)[right : right + self.per_pass] = target[right : right + self.per_pass]
        return x


@exercise
def check_iterate(answer: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> str:
    """Checks a fixed-point iteration.

    Arguments:
        answer: takes a function `redraw`, from images to images, and images of zeros to start from;
            returns the images that `redraw` does not change.

    Example:
        >>> def ten_passes(redraw, x):
        ...     for _ in range(10):
        ...         x = redraw(x)
        ...     return x
        >>> check_iterate(ten_passes)
        ✗ Not yet. Your image still changes when it is redrawn: after 10 passes it was too early to stop.
    """
    target = torch.arange(1, 37, dtype=torch.uint8).view(1, 1, 6, 6)
    for in_place, per_pass in ((False, 4), (False, 1), (False, 36), (True, 3)):
        redraw = _Redraw(target, in_place, per_pass)
        zeros = torch.zeros_like(target)
        result = ask(answer, redraw, zeros)
        if not isinstance(result, Tensor) or result.shape != target.shape:
            kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise Mistake(f"Your function returned {kind}: return the images, {tuple(target.shape)}.")
        calls, needed = redraw.calls, -(-36 // per_pass) + 1
        if calls == 0:
            raise Mistake("redraw was never called.")
        if not torch.equal(result, target):
            if in_place:
                raise Mistake(
                    "Right for a redraw that returns a new tensor. This one writes into the tensor that it is given, "
                    "so your old and new images were the same tensor and looked equal: compare with a copy."
                )
            raise Mistake(
                f"Your image still changes when it is redrawn: after {calls} pass{'es' * (calls > 1)} it was too early "
                "to stop."
            )
        if calls > needed:
            raise Mistake(
                f"The right image, after {calls} passes. After {needed} it was certain: the first pass that changes "
                "nothing is the last one needed."
            )
    return "It stops when nothing changes, no earlier and no later, even when redraw works in place."
