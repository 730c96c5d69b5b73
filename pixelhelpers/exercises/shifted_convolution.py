"""Checks of notebook 09: a masked convolution without a mask, the range of its initial weights."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ..layers import raster_mask
from .verdict import Mistake, ask, exercise, learns


def _above(x: Tensor, weight: Tensor, lower: int = 0) -> Tensor:
    """The rows above, the whole moved down by `lower` rows too many."""
    half = weight.shape[-1] // 2
    return F.conv2d(F.pad(x, (half, half, half + lower, -1 - lower)), weight[:, :, :half])


def _beside(x: Tensor, weight: Tensor, own: int, further: int = 0) -> Tensor:
    """The taps on the own row, the whole moved to the right by `further` columns too many."""
    half = weight.shape[-1] // 2
    padded = F.pad(x, (half + further, own - 1 - further, 0, 0))
    return F.conv2d(padded, weight[:, :, half : half + 1, : half + own])


def _centred(x: Tensor, weight: Tensor, mask: Tensor | None = None) -> Tensor:
    return F.conv2d(x, weight if mask is None else weight * mask, padding=weight.shape[-1] // 2)


def _refuse_masks(answer: Callable, x: Tensor, weight: Tensor, mask_type: str, mask: Tensor) -> None:
    with FlopCounterMode(display=False) as counter:
        ask(answer, x.clone(), weight.clone(), mask_type)
    size, alive = weight.shape[-1], int(mask[0, 0].sum())
    taps = counter.get_total_flops() / (2 * x[:, 0].numel() * weight[..., 0, 0].numel())
    if taps > (alive + size**2) / 2:  # more rows than the image has may be computed and cut off
        raise Mistake(
            f"The numbers are right, but {taps:.0f} taps are multiplied, and {alive} are alive: to set the weights of "
            "the future to 0 is a mask as well. Cut the kernel, and pad for what is left."
        )
    nonsense = weight.masked_fill(~mask, float("nan"))
    if not ask(answer, x.clone(), nonsense, mask_type).isfinite().all():
        raise Mistake(
            "The numbers are right, but the weights of the future are still multiplied: with NaN among them the result "
            "is NaN. Cut the kernel, and pad for what is left."
        )


@exercise
def check_without_mask(answer: Callable[[Tensor, Tensor, str], Tensor]) -> str:
    """Checks a masked convolution that is written as a sum of two shifted ones.

    Arguments:
        answer: takes features `[N, in, H, W]`, a kernel `[out, in, k, k]` whose weights of the future hold
            nonsense, and a mask type, "A" or "B"; returns `[N, out, H, W]`.

    Example:
        >>> check_without_mask(lambda x, weight, mask_type: F.conv2d(x, weight, padding=weight.shape[-1] // 2))
        ✗ Not yet. All weights act, those of the future too: take the rows above and the taps beside only.
    """
    generator = torch.Generator().manual_seed(0)
    for size, mask_type in ((3, "A"), (3, "B"), (5, "A"), (7, "B")):
        x, weight = (
            torch.randn(sides, generator=generator, dtype=torch.float64) for sides in ((2, 3, 8, 9), (4, 3, size, size))
        )
        own = int(mask_type == "B")
        mask = raster_mask(mask_type, 3, 4, size)
        right = _centred(x, weight, mask)
        result = ask(answer, x.clone(), weight.clone(), mask_type)
        if not isinstance(result, Tensor) or result.shape != right.shape:
            kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise Mistake(
                f"From features {tuple(x.shape)} and a kernel {tuple(weight.shape)} you return {kind}: return "
                f"{tuple(right.shape)}, as many rows and columns as came in."
            )
        if torch.allclose(result, right, rtol=0, atol=1e-9):
            _refuse_masks(answer, x, weight, mask_type, mask)
            continue
        above, beside = _above(x, weight), _beside(x, weight, own)
        swapped = _beside(x, weight, 1 - own)
        half = size // 2
        for wrong, words in (
            (
                _centred(x, weight),
                "All weights act, those of the future too: take the rows above and the taps beside only.",
            ),
            (2 * right, "Everything counts twice."),
            (
                _centred(x, weight, raster_mask(mask_type, 3, 4, size).mT),
                "This is the order of columns: what stands to the left is earlier. Raster order goes row by row.",
            ),
            (
                _centred(x, weight, ~mask),
                "These are the weights of the future, below and to the right: take those above and to the left.",
            ),
            (above, "The own row is missing: add the taps beside the output."),
            (beside, "The rows above are missing: add them to the taps beside."),
            (
                above + swapped,
                "The pixel itself is seen in type A: leave out the centre, and pad one column more on the left."
                if mask_type == "A"
                else "The pixel itself is missing in type B: take the centre, too.",
            ),
            (
                above + _beside(x, weight, own, further=1),
                "The taps beside stand one column too far to the left: the nearest pixel on the left is not seen.",
            ),
            (
                above + _beside(x, weight, own, further=-1),
                "The taps beside stand one column too far to the right: a pixel sees itself, or the next one.",
            ),
            (
                _above(x, weight, lower=-1) + beside,
                "The rows above were not moved down: the kernel's last row stands on the output's own row.",
            ),
            (
                _above(x, weight, lower=1) + beside,
                "The rows above were moved down twice: the row right above the output is not seen.",
            ),
            (
                above + F.conv2d(F.pad(x, (half, half, 0, 0)), weight[:, :, half : half + 1]),
                "The own row is open on the right, too: cut it after the left neighbours (type A) or the centre "
                "(type B).",
            ),
            (
                _centred(x, weight.flip(2, 3), mask),
                "The kernel is flipped: layers of PyTorch slide it as it is.",
            ),
            (
                _centred(x, weight, mask.flip(2, 3)),
                "These are the weights of the future, below and to the right: take those above and to the left.",
            ),
            (
                _centred(x, weight, mask & (torch.arange(size) <= half)),
                "Above, the columns to the right are missing: the rows above count in full width.",
            ),
        ):
            if wrong.shape == result.shape and torch.allclose(result, wrong, rtol=0, atol=1e-9):
                raise Mistake(words)
        raise Mistake(
            f"With a kernel of {size} × {size} and type {mask_type} the result is not that of the masked convolution. "
            "Try the two parts one by one, on an image with a single bright pixel."
        )
    x, weight = x.requires_grad_(), weight.requires_grad_()
    learns(ask(answer, x.clone(), weight.clone(), mask_type), x=x, weight=weight)
    return "No mask, and yet a masked convolution: two shifts, for both types and any size."


@exercise
def check_starting_bound(answer: Callable[[Tensor], Tensor]) -> str:
    """Checks the range of initial weights under a mask.

    Arguments:
        answer: takes a mask, bool `[out, in, k, k]`; returns for each output 1 / sqrt(live taps), `[out]`, finite
            for outputs without any.

    Example:
        >>> check_starting_bound(lambda mask: mask[0].numel() ** -0.5 * torch.ones(len(mask)))
        ✗ Not yet. Dead taps are counted: 49 in place of 24. Only open taps bring anything in.
    """
    grey = raster_mask("A", 1, 1, 7).expand(5, 1, 7, 7)
    wide = raster_mask("B", 1, 1, 3).expand(5, 4, 3, 3)
    colour = raster_mask("A", 3, 6, 3, image_channels=3)
    blind = raster_mask("A", 3, 6, 1, image_channels=3)  # R's features see nothing
    for mask in (grey, wide, colour, blind):
        live = mask.flatten(1).sum(1)
        result = ask(answer, mask.clone())
        if not isinstance(result, Tensor) or result.shape != live.shape:
            kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise Mistake(
                f"From a mask {tuple(mask.shape)} you return {kind}: return one bound per output, [{len(live)}]."
            )
        result, seeing = result.double(), live > 0
        right = live.clamp(min=1).double().rsqrt()
        if not result.isfinite().all():
            raise Mistake("An output without any live tap gets a bound that is no finite number: count at least 1.")
        if torch.allclose(result[seeing], right[seeing], rtol=1e-5, atol=0):
            if (result > 1).any():
                raise Mistake(
                    f"An output without any live tap gets the bound {float(result.max()):.3g}: finite, but no weight "
                    "should start there. One live tap would give 1."
                )
            continue
        every, of_one = mask[0].numel(), mask[:, 0].flatten(1).sum(1)
        for wrong, words in (
            (
                torch.full_like(right, every).rsqrt(),
                f"Dead taps are counted: {every} in place of {int(live[0])}. Only open taps bring anything in.",
            ),
            (
                (live.clamp(min=1) / every).double().rsqrt(),
                "This is 1 / √(share of live taps): count them, do not average.",
            ),
            *(
                (
                    same.expand_as(right),
                    "All outputs get the same bound: in colour, B's features see more than R's. Count each by itself.",
                )
                for same in (right.max(), right.min(), right[-1])
                if live.unique().numel() > 1
            ),
            (right.square(), "This is 1 / live taps: the square root is missing."),
            (right.reciprocal(), "This is √(live taps): the more inputs, the smaller their weights."),
            (right.square().reciprocal(), "This is the number of live taps: the bound is 1 / √ of it."),
            (
                of_one.clamp(min=1).double().rsqrt(),
                f"Only one input feature is counted: all {mask.shape[1]} of them reach the output.",
            ),
            (
                torch.full_like(right, float(live.double().mean())).rsqrt(),
                "All outputs get the same bound: in colour, B's features see more than R's. Count each by itself.",
            ),
            (
                torch.full_like(right, float(live.sum())).rsqrt(),
                "The taps of all outputs are added up: count each output by itself.",
            ),
            (
                torch.full_like(right, float(live[0])).rsqrt(),
                "All outputs get the bound of the first one: in colour, B's features see more than R's.",
            ),
        ):
            if torch.allclose(result[seeing], wrong[seeing], rtol=1e-5, atol=0):
                raise Mistake(words)
        raise Mistake(
            f"For a mask {tuple(mask.shape)}, whose outputs have {sorted(set(live.tolist()))} live taps, you return "
            f"{[round(float(b), 4) for b in result]}. It should be 1 / √ of that number."
        )
    return "Each output counts the inputs that reach it, and nothing else."
