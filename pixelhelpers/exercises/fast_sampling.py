"""Checks of notebook 05: a cache, fronts, fixed-point iteration, and drawing with little work."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..layers import MaskedConv2d
from ..models import PixelCNN
from ..sampling import draw
from ..stepping import Wavefront
from .verdict import Mistake, Unsolved, ask, exercise


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
            raise Mistake(
                f"The images that you return are {result.dtype}; the zeros were {zeros.dtype}: keep the type."
            )
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


# -- a cache --------------------------------------------------------------------------------------


@exercise
def check_cache(answer: Callable[[MaskedConv2d, int, int, int], Any]) -> str:
    """Checks a masked convolution that remembers its input and computes one output at a time.

    Arguments:
        answer: a class, called as `answer(layer, count, height, width)`, whose objects have `write(row, column,
            values)`, values `[N, in]`, and `look(row, column)`, which returns `[N, out]`.

    Example:
        >>> check_cache(lambda layer, count, height, width: layer)
        ✗ Not yet. An object of your class needs two methods, write and look.
    """
    cases = (
        ("A", 3, (5, 7)),
        ("B", 3, (6, 4)),
        ("B", 5, (7, 6)),
        ("A", 7, (6, 9)),
        ("B", 1, (3, 4)),
        ("A", 3, (3, 30)),
    )
    for mask_type, side, shape in cases:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(side)
            layer = MaskedConv2d(mask_type, 2, 3, side).double().requires_grad_(False)
            x = torch.randn(4, 2, *shape, dtype=torch.float64)
        for images in (x, x.flip(0) + 1):  # the second time nothing of the first may be left
            _draws_along(answer, layer, images)
    return "One output at a time, the same as those of the whole layer, for kernels of every side."


def _draws_along(answer: Callable, layer: MaskedConv2d, x: Tensor) -> None:
    """Goes through the images pixel by pixel as a sampler does, and compares every output."""
    count, _, height, width = x.shape
    right = layer(x)
    case = f"For a layer of type {layer.mask_type}, kernel {layer.kernel_size[0]}×{layer.kernel_size[0]}: "
    with FlopCounterMode(display=False) as whole:
        nn.Conv2d(2, 3, layer.kernel_size, padding=layer.padding, dtype=x.dtype)(x)
    cached = answer(layer, count, height, width)
    if cached is None or cached is ...:
        raise Unsolved
    if not (callable(getattr(cached, "write", None)) and callable(getattr(cached, "look", None))):
        raise Mistake("An object of your class needs two methods, write and look.")
    outputs, moved = torch.zeros_like(right), False
    with FlopCounterMode(display=False) as drawing:
        for row in range(height):
            for column in range(width):
                if layer.mask_type == "B":
                    cached.write(row, column, x[:, :, row, column] + 1)  # a guess, taken back
                    cached.write(row, column, x[:, :, row, column].clone())
                feature = ask(cached.look, row, column)
                if not isinstance(feature, Tensor) or feature.shape != right.shape[:2]:
                    kind = tuple(feature.shape) if isinstance(feature, Tensor) else type(feature).__name__
                    raise Mistake(f"{case}look returns {kind}: the features of one pixel, {tuple(right.shape[:2])}.")
                outputs[:, :, row, column] = feature
                if layer.mask_type == "A":
                    cached.write(row, column, x[:, :, row, column].clone())
                    moved |= not torch.allclose(cached.look(row, column), feature)
    if not torch.allclose(outputs, right, atol=1e-9):
        raise Mistake(case + _what_was_cached(outputs, right, layer, x))
    if moved:
        raise Mistake(f"{case}a pixel's own output moves when the pixel is written: is the mask left out?")
    times = (
        drawing.get_total_flops() / whole.get_total_flops() / (2 if layer.mask_type == "A" else 1)
    )  # looks per pixel
    if times > 2.5:
        raise Mistake(
            f"{case}all outputs are right, at {times:.0f} times the multiplications of one plain convolution. "
            "Compute one output from one window."
        )


def _what_was_cached(outputs: Tensor, right: Tensor, layer: MaskedConv2d, x: Tensor) -> str:
    """Says what is wrong with the outputs `[N, out, H, W]`."""
    bias = layer.bias[:, None, None]
    mistakes = {
        "the bias is missing.": right - bias,
        "the bias is added twice.": right + bias,
        "every output is that of a black image: what is written is never read.": layer(torch.zeros_like(x)),
        "the outputs went through a ReLU: that is another layer's work.": right.relu(),
        "all images have the values of the first one.": layer(x[:1].expand_as(x)),
        "values or weights act twice as strongly as they should.": layer(2 * x),
        "what is written is added to what was there: it takes its place.": layer(2 * x + 1),
    }
    for words, wrong in mistakes.items():
        if torch.allclose(outputs, wrong, atol=1e-9):
            return words
    if torch.allclose(outputs, right, atol=1e-4):
        return "the outputs are right to 4 digits only: keep the values in the type of the weights, here float64."
    for down, beside in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        height, width = right.shape[2:]
        inner = outputs[:, :, max(0, -down) : height - max(0, down), max(0, -beside) : width - max(0, beside)]
        other = right[:, :, max(0, down) : height + min(0, down), max(0, beside) : width + min(0, beside)]
        if layer.mask_type == "B" and inner.numel() and torch.allclose(inner, other, atol=1e-9):
            return "the window lies one pixel beside the place."
    wrong = (outputs - right).abs().amax((0, 1)) > 1e-9
    row, column = wrong.nonzero()[0].tolist()
    whole = (
        "the first output"
        if (row, column) == (0, 0)
        else f"the outputs are right up to that at ({row}, {column}), which"
    )
    hint = {
        "B": "In the check a pixel is written twice: the second value counts.",
        "A": "It is asked for before its own pixel is written.",
    }[layer.mask_type]
    return (
        f"{whole} differs from the layer's. Which values does its window hold, zeros beyond the border included? {hint}"
    )


# -- drawing with little work ---------------------------------------------------------------------


class _Meter(nn.Module):
    """A causal model that counts the pixels that go through it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.pixels, self.calls = net, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls, self.pixels = self.calls + 1, self.pixels + x.shape[0] * x.shape[-2] * x.shape[-1]
        return self.net(x)


@exercise
def check_little_work(answer: Callable[[nn.Module, Tensor], Tensor]) -> str:
    """Checks a sampler that draws the images of the naive one with less than a tenth of its work.

    Arguments:
        answer: takes a causal model, images `[N, 1, H, W]` to logits `[N, levels, H, W]`, which reaches at most 8
            rows up and 8 columns to either side, and uniform numbers `[N, H, W]`; returns images uint8 `[N, 1, H, W]`.

    Example:
        >>> check_little_work(lambda model, uniform: torch.zeros(3, 1, 16, 18, dtype=torch.uint8))
        ✗ Not yet. The model was never asked.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        net = PixelCNN(levels=4, hidden=16, blocks=5).double().eval()
        for weight in net.parameters():
            weight.mul_(1.5)
        model, uniform = _Meter(net), torch.rand(3, 16, 18, dtype=torch.float64)
        result = ask(answer, model, uniform.clone())
        right = _drawn_in_order(net, uniform)
    if not isinstance(result, Tensor) or result.shape != right.shape or result.dtype != torch.uint8:
        kind = f"{tuple(result.shape)} {result.dtype}" if isinstance(result, Tensor) else type(result).__name__
        raise Mistake(f"You return {kind}: return images {tuple(right.shape)}, torch.uint8.")
    if model.calls == 0:
        raise Mistake("The model was never asked.")
    if not torch.equal(result, right):
        row, column = (result != right)[:, 0].any(0).nonzero()[0].tolist()
        raise Mistake(f"Not the images of the naive sampler: the first pixel that differs is ({row}, {column}).")
    share = model.pixels / (3 * (16 * 18) ** 2)
    spent = f"{model.calls} calls, {share:.1%} of the naive sampler's work"
    if share > 0.1:
        raise Mistake(
            f"The right images, with {spent}: less than 10 % is asked for. Which pixels need not be computed again?"
        )
    return f"The same images with {spent}. Can you halve that?"


def _drawn_in_order(net: nn.Module, uniform: Tensor) -> Tensor:
    x = torch.zeros(len(uniform), 1, *uniform.shape[1:], dtype=torch.uint8)
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            probs = net(x[:, :, : row + 1])[:, :, row, column].softmax(1)
            x[:, 0, row, column] = draw(probs, uniform[:, row, column]).to(torch.uint8)
    return x
