"""Checks of notebook 05: fronts, fixed-point iteration."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from ..stepping import Wavefront
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
        if not isinstance(result, int):
            raise Mistake(f"The answer is {result!r}, a float. Turns are counted: return an int (`//`, not `/`).")
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
            width + (kernel_size - 1) * (height - 1): (
                "the lag is not the kernel's whole reach to both sides: only what it sees to the right matters."
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
            width + height - 1: (
                "that is a lag of 1, as if the kernel did not look to the right: the pixel at the upper right would "
                "not be there yet."
            ),
            1: "all pixels at once would be a fixed-point pass, and the first one is not right.",
        }
        too = "few: some pixel would be drawn before one that it sees." if result < right else "many."
        raise Mistake(f"{case} {mistakes.get(result, f'that is too {too}')}")
    return "136 turns for 784 pixels, and right for small and narrow images, too."


class _Redraw:
    """A map of two images with one fixed point; the first image is there at once, the second takes its time.

    As in a causal model, a value is redrawn rightly when all before it are right. The others change at every
    call, up and down, in such a way that their mean does not.
    """

    def __init__(self, per_pass: int, in_place: bool = False):
        self.target = torch.stack([torch.zeros(36), torch.arange(36) % 5]).to(torch.uint8).view(2, 1, 6, 6)
        self.per_pass, self.in_place, self.calls = per_pass, in_place, 0
        self.begun_with: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.begun_with is None:
            self.begun_with = x.clone()
        if self.calls > 200:
            raise Mistake("redraw was called more than 200 times, long after nothing changed: compare and stop.")
        if not self.in_place:
            x = x.clone()
        x[0] = self.target[0]
        x[1] = self.second(x[1].flatten()).view(1, 6, 6)
        return x

    def second(self, values: Tensor) -> Tensor:
        """Redraws the image that takes its time, `[36]`."""
        values, target = values.clone(), self.target[1].flatten()
        wrong = (values != target).nonzero().flatten().tolist()
        right = min(wrong[0] + self.per_pass, 36) if wrong else 36
        values[:right] = target[:right]
        if right < 36:
            values[right:] = (torch.arange(right, 36) * 3 + self.calls) % 5
            values[-1] = 250 - values[:-1].sum()
        return values


class _Creep(_Redraw):
    """Every pass moves each value by at most one level."""

    def __init__(self):
        super().__init__(per_pass=1)

    def second(self, values: Tensor) -> Tensor:
        return torch.minimum(values + 1, self.target[1].flatten())


def _passes_needed(redraw: _Redraw) -> int:
    redraw = copy.deepcopy(redraw)
    redraw.in_place = False
    x = torch.zeros_like(redraw.target)
    while not torch.equal(new := redraw(x), x):
        x = new
    return redraw.calls


@exercise
def check_iterate(answer: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> str:
    """Checks a fixed-point iteration.

    Arguments:
        answer: takes a function `redraw`, from images to images, and images of zeros to start from;
            returns the images that `redraw` does not change.

    Example:
        >>> def five_passes(redraw, x):
        ...     for _ in range(5):
        ...         x = redraw(x)
        ...     return x
        >>> check_iterate(five_passes)  # doctest: +ELLIPSIS
        ✗ Not yet. One of the two images still changes when it is redrawn: after 5 passes it was too early...
    """
    for redraw in (_Redraw(4), _Redraw(1), _Redraw(36), _Creep(), _Redraw(3, in_place=True)):
        needed = _passes_needed(redraw)
        zeros = torch.zeros_like(redraw.target)
        result = ask(answer, redraw, zeros)
        if not isinstance(result, Tensor) or result.shape != zeros.shape:
            kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise Mistake(f"Your function returned {kind}: return the images, {tuple(zeros.shape)}.")
        calls = redraw.calls
        passes = f"{calls} pass{'es' * (calls != 1)}"
        if calls == 0:
            raise Mistake("redraw was never called.")
        if redraw.begun_with.any():
            raise Mistake("The first image that redraw got is not the zeros that you were given: begin with these.")
        if result.dtype != zeros.dtype:
            raise Mistake(f"The images that you return are {result.dtype}; the zeros were {zeros.dtype}: keep the type.")
        if not torch.equal(result, redraw.target):
            if redraw.in_place:
                raise Mistake(
                    "Right for a redraw that returns a new tensor. This one writes into the tensor that it is given, "
                    "so your old and new images were the same tensor and looked equal: compare with a copy."
                )
            raise Mistake(
                f"One of the two images still changes when it is redrawn: after {passes} it was too early to stop. "
                "Compare all values of all images."
            )
        if calls > needed:
            raise Mistake(
                f"The right images, after {calls} passes. After {needed} it was certain: the first pass that changes "
                "nothing is the last one needed."
            )
        if zeros.any():
            raise Mistake("Right, but the zeros that you were given are zeros no more: work on a copy.")
    return "It stops when nothing changes, no earlier and no later, even when redraw works in place."
