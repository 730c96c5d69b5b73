"""Checks of notebook 09: a masked convolution without a mask, the range of its initial weights, what is seen."""

from collections.abc import Callable, Iterable

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


@exercise
def check_seen_offsets(answer: Callable[[Callable[[Tensor], Tensor]], Iterable[tuple[int, int]]]) -> str:
    """Checks a function that finds out which pixels an unknown convolution sees.

    Arguments:
        answer: takes a layer that maps `[N, 1, H, W]` to `[N, 1, H, W]`, a convolution with a bias; returns the places
            that an output sees, (down, right) counted from its own, such as (-1, 0) for the pixel right above.

    Example:
        >>> check_seen_offsets(lambda layer: {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)})
        ✗ Not yet. For a shifted 2 × 3 kernel you say the same as for any other layer: find it out from the layer.
    """
    given = {}
    for name, layer in _LAYERS.items():
        result = ask(answer, _convolution(layer))
        if isinstance(result, Tensor):
            result = result.tolist()
        try:
            given[name] = {(int(down), int(right)) for down, right in result}
        except (TypeError, ValueError):
            raise Mistake(
                f"You return {result!r}: return pairs (down, right), one for each place that is seen."
            ) from None
    wrong = [name for name, layer in _LAYERS.items() if given[name] != set(layer)]
    if not wrong:
        return "What an output sees, whatever the layer: asked at an output, not read off an input's traces."
    name, own = wrong[0], given[wrong[0]]
    if all(len(places) > 100 for places in given.values()):
        raise Mistake("The bias answers everywhere: compare with what the layer says when nothing stands there.")
    if len({frozenset(places) for places in given.values()}) == 1:
        raise Mistake(f"For {name} you say the same as for any other layer: find it out from the layer.")
    for words, mistaken in _MISREADINGS.items():
        if all(given[one] == set(mistaken(layer)) for one, layer in _LAYERS.items()):
            raise Mistake(f"For {name}: {words}")
    if own and any(abs(down) > 8 or abs(right) > 8 for down, right in own):
        raise Mistake(f"For {name} you say {max(own)}: count from the output's own place, not from the image's corner.")
    too_many, missing = sorted(own - set(_LAYERS[name])), sorted(set(_LAYERS[name]) - own)
    told = f"{too_many[0]} is not seen" if too_many else f"{len(missing)} of {len(_LAYERS[name])} places are missing"
    raise Mistake(f"For {name}: {told}. Change one pixel of the image, and see whether *this* output moves.")


Places = dict[tuple[int, int], float]  # the weight of each place that an output sees

_LAYERS: dict[str, Places] = {
    "a shifted 2 × 3 kernel": {(-1, -1): 0.5, (-1, 0): -1.0, (-1, 1): 0.25, (0, -1): 2.0, (0, 0): -0.5, (0, 1): 1.0},
    "a masked 5 × 5 kernel": {
        (down, right): 0.1 * (-1) ** (down * right)
        for down in (-2, -1, 0)
        for right in range(-2, 3)
        if (down, right) < (0, 0)
    },
    "taps that stand apart": {(-4, 0): 1.0, (0, -3): -1.0, (2, 1): 0.5},
    "a 1 × 1 kernel": {(0, 0): -1.0},
    "a layer that sees nothing": {},
}


def _convolution(places: Places) -> Callable[[Tensor], Tensor]:
    kernel = torch.zeros(1, 1, 9, 9)
    for (down, right), weight in places.items():
        kernel[0, 0, 4 + down, 4 + right] = weight
    return lambda x: F.conv2d(x, kernel.to(x), padding=4) + 0.7


def _box(places: Places) -> set[tuple[int, int]]:
    if not places:
        return set()
    (top, bottom), (left, right) = ((min(side), max(side)) for side in zip(*places, strict=True))
    return {(down, aside) for down in range(top, bottom + 1) for aside in range(left, right + 1)}


_MISREADINGS: dict[str, Callable[[Places], Iterable[tuple[int, int]]]] = {
    "that is where an input *acts*. An output sees the other way round.": lambda layer: (
        (-down, -right) for down, right in layer
    ),
    "down and right have changed places.": lambda layer: ((right, down) for down, right in layer),
    "only positive weights are found: what dims an output is seen as well.": lambda layer: (
        place for place, weight in layer.items() if weight > 0
    ),
    "only negative weights are found: what brightens an output is seen as well.": lambda layer: (
        place for place, weight in layer.items() if weight < 0
    ),
    "the bounding box is larger than what is seen: some taps within it are 0.": _box,
    "an output need not see its own place.": lambda layer: {*layer, (0, 0)},
    "its own place may be among those that it sees.": lambda layer: set(layer) - {(0, 0)},
    "what comes later is missing: an unknown layer need not be causal.": lambda layer: (
        place for place in layer if place <= (0, 0)
    ),
    "only the rows above are found.": lambda layer: (place for place in layer if place[0] < 0),
    "only the nearest places are found: a kernel may be wider, or its taps may stand apart.": lambda layer: (
        place for place in layer if max(map(abs, place)) <= 1
    ),
    "you are off by one row: which pixel is the middle of your image?": lambda layer: (
        (down + 1, right) for down, right in layer
    ),
    "you are off by one: which pixel is the middle of your image?": lambda layer: (
        (down + 1, right + 1) for down, right in layer
    ),
    "the signs are lost: above and below, left and right are not the same.": lambda layer: (
        (abs(down), abs(right)) for down, right in layer
    ),
    "left and right have changed places.": lambda layer: ((down, -right) for down, right in layer),
}
