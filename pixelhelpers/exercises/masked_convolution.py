"""Checks for notebook 01: a masked convolution of one's own, masks and networks that leak, colour, orders."""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import MaskedConv2d, raster_mask
from ..probes import CausalityError, check_causal
from .verdict import Mistake, Unsolved, ask, exercise

CHANNELS = "RGB"


# -- a masked convolution of one's own ------------------------------------------------------------


@exercise
def check_masked_convolution(answer: Any) -> str:
    """Checks a learner's masked convolution: the mask, the size, and what training does.

    Arguments:
        answer: a class, called as `answer(mask_type, in_channels, out_channels, kernel_size)`,
            whose modules map `[N, in_channels, H, W]` to `[N, out_channels, H, W]`.

    Example:
        >>> from pixelhelpers import MaskedConv2d
        >>> check_masked_convolution(MaskedConv2d)  # doctest: +ELLIPSIS
        ✓ Types A and B, every kernel size...
        >>> check_masked_convolution(torch.nn.Conv2d)  # doctest: +ELLIPSIS
        ✗ Your code raised ...
    """
    if isinstance(answer, nn.Module):
        raise Mistake("Give the class itself, MaskedConv2d, not a layer made from it.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for mask_type in "AB":
            for size in (3, 5):
                _check_layer(ask(answer, mask_type, 2, 3, size), mask_type, size)
            _check_numbers(ask(answer, mask_type, 3, 3, 3), mask_type)  # where a skip would fit
    return (
        "Types A and B, every kernel size: each output sees what it may see, masked weights get no "
        "gradient, and training does not wake them."
    )


def _check_layer(layer: Any, mask_type: str, size: int) -> None:
    if not isinstance(layer, nn.Module):
        raise Mistake(f"Calling your class gave a {type(layer).__name__}: make it an nn.Module.")
    name = f"Type {mask_type}, kernel {size}×{size}: "
    _check_shape(layer, size)
    _check_that_it_is_a_convolution(layer, size)
    mistake = _wrong_taps(_open_taps(layer, size), raster_mask(mask_type, 1, 1, size)[0, 0])
    if mistake:
        raise Mistake(name + mistake)
    _check_that_the_mask_belongs_to_the_module(layer)
    _check_training(layer, mask_type, size)
    try:
        grey = nn.Sequential(nn.Conv2d(1, 2, 1), layer)
        check_causal(grey, (1, 6, 6), own_value=mask_type == "B")
    except CausalityError as error:
        raise Mistake(name + str(error)) from None


def _check_shape(layer: nn.Module, size: int) -> None:
    given = (1, 2, 2 * size, 2 * size + 1)
    shape = tuple(ask(layer, torch.zeros(given)).shape)
    expected = (1, 3, *given[2:])
    if shape == expected:
        return
    if len(shape) == 4 and shape[2] < expected[2]:
        raise Mistake(
            f"The image shrinks from {expected[2]}×{expected[3]} to {shape[2]}×{shape[3]}: give "
            "the convolution a padding of kernel_size // 2, so that there is one output per pixel."
        )
    raise Mistake(f"An input {given} became {shape}: it must become {expected}.")


@torch.no_grad()
def _check_that_it_is_a_convolution(layer: nn.Module, size: int) -> None:
    """Asks for what every convolution does: double of the input doubles what it adds, everywhere alike."""
    black = torch.zeros(1, 2, 4 * size, 4 * size)
    x = torch.randn_like(black)
    nothing = layer(black)
    if not torch.allclose(layer(x) + layer(-x), 2 * nothing, atol=1e-4):
        raise Mistake(
            "The layer does more than a convolution: the answer to -x does not mirror the answer to x. "
            "An activation such as ReLU comes after the layer, not in it."
        )
    answers = []
    for place in (size, 2 * size):
        lit = black.clone()
        lit[..., place, place] = 1
        window = slice(place - size // 2, place + size // 2 + 1)
        answers.append((layer(lit) - nothing)[..., window, window])
    if not torch.allclose(*answers, atol=1e-4):
        raise Mistake(
            "The same pixels act at one place of the image and not at another: you mask the image. "
            "The mask lies on the weights, [k, k], and goes with the kernel to every pixel."
        )


def _check_numbers(layer: nn.Module, mask_type: str) -> None:
    """Compares output and gradients with those of the layer's own weights under the right mask."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", 0)
    if not isinstance(weight, nn.Parameter) or weight.dim() != 4 or weight.shape[-1] != weight.shape[-2]:
        return  # put together in a way of its own
    size = weight.shape[-1]
    if bias is None:
        raise Mistake("The layer has no bias: then nothing is left for the first pixel, which sees nothing else.")
    mask = raster_mask(mask_type, 1, 1, size)[0, 0]
    with torch.no_grad():
        for parameter in layer.parameters():  # a bias that is near 0 would not be missed
            parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(2, weight.shape[1], 9, 8)
    right = F.conv2d(x, weight * mask, bias, padding=size // 2)
    given = ask(layer, x)
    added, own = given - right, bias[:, None, None]
    if not torch.allclose(given, right, atol=1e-4):
        if torch.allclose(added, -own.expand_as(added), atol=1e-4):
            raise Mistake("The bias is left out: it is all that the first pixel has.")
        if torch.allclose(added, added[:1, :, :1, :1].expand_as(added), atol=1e-4):
            raise Mistake("The weights are right, but what is added to them is not self.bias as it is.")
        if x.shape == given.shape and torch.allclose(added, x, atol=1e-4):
            raise Mistake(
                "The input is added to the output. A masked convolution has no skip: type A would not be blind."
            )
        raise Mistake(
            "The right taps are open, but the weights do not act as they are: the output must be that of an ordinary "
            "convolution whose shut weights are 0, without another factor."
        )
    learned = {"weight": weight, "bias": bias}
    score = torch.randn_like(right)
    expected = torch.autograd.grad((right * score).sum(), learned.values())
    found = [None, None]
    if given.requires_grad:
        found = torch.autograd.grad((given * score).sum(), learned.values(), allow_unused=True)
    for (name, _), truth, gradient in zip(learned.items(), expected, found, strict=True):
        if gradient is None or not gradient.any():
            raise Mistake(
                f"The output is right, but no gradient reaches self.{name}: the layer will never learn it. "
                "`.data`, `.detach()` and `no_grad` cut it off from autograd."
            )
        if not torch.allclose(gradient * (mask if truth.dim() == 4 else 1), truth, atol=1e-3):
            raise Mistake(f"The output is right, but the gradient of self.{name} is not that of the output.")


@torch.no_grad()
def _open_taps(layer: nn.Module, size: int) -> Tensor:
    """Measures which taps act: one pixel of a black image is lit at a time, `[out, in, k, k]`."""
    side, middle = 2 * size + 1, size
    black = torch.zeros(1, 2, side, side)
    taps = []
    for feature in range(2):
        lit = black.clone()
        lit[0, feature, middle, middle] = 1
        reached = (layer(lit) != layer(black))[0]
        half = size // 2  # an impulse shows whom a pixel influences: mirrored, it is the kernel
        window = slice(middle - half, middle + half + 1)
        taps.append(reached[:, window, window].flip(-2, -1))
    return torch.stack(taps, 1)


def _wrong_taps(taps: Tensor, truth: Tensor) -> str | None:
    """Says what is wrong with open taps `[out, in, k, k]`, None when they equal `truth`."""
    first = taps[0, 0]
    if (taps != first).any():
        return (
            "some features are masked otherwise than the rest. One mask [k, k] holds for every "
            "pair of input and output feature: the product with the weights broadcasts."
        )
    centre = len(truth) // 2
    type_b = bool(truth[centre, centre])
    other = truth.clone()
    other[centre, centre] = not type_b
    own = first[centre, centre]
    if torch.equal(first, truth):
        return None
    if first.all():
        return "all taps act, as if there were no mask. Multiply the weights with it in forward."
    if not first.any():
        return "no tap acts: the mask is 0 everywhere."
    if torch.equal(first, other):
        return _wrong_centre(type_b)
    for pattern in (truth, other):
        if torch.equal(first, ~pattern):
            return "the mask is the wrong way round: 1 must stand where a weight may act."
        if torch.equal(first, pattern.T):
            return (
                "the mask is transposed: it looks at whole columns to the left, among them pixels "
                "further down that come later. In mask[i, j], i counts rows and j columns."
            )
    if first[centre + 1 :].any():
        return f"rows below are open. Shut every row after row {centre}: what lies below comes later."
    right = int(first[centre, centre + 1 :].sum())
    if right:
        columns = "one column" if right == 1 else f"{right} columns"
        return f"the centre row is open {columns} too far: to the right of the centre all is shut."
    if own != type_b:
        return _wrong_centre(type_b)
    if not first[:centre, centre + 1 :].all() and first[:centre, :centre].any():
        return (
            "taps above and to the right of the centre are shut. Nothing leaks, but whole rows "
            "above come earlier: open all of them, to the right as well."
        )
    if not first[centre, :centre].all():
        return "the pixels to the left on the centre row are shut, and they come earlier: open them."
    return "rows above are shut, and they come earlier: open them."


def _wrong_centre(type_b: bool) -> str:
    if type_b:
        return "the centre is shut. In type B it is open: the feature there knows earlier pixels only."
    return "the centre is open, so that a pixel sees the very value it predicts. In type A it is shut."


def _check_that_the_mask_belongs_to_the_module(layer: nn.Module) -> None:
    for name, value in layer.named_parameters():
        zeros_and_ones = ((value == 0) | (value == 1)).all() and value.any() and not value.all()
        if value.requires_grad and zeros_and_ones:
            raise Mistake(
                f"The mask ({name}) is a parameter, so the optimiser will change it. A buffer "
                'moves with the module and is never trained: self.register_buffer("mask", mask).'
            )
    try:
        copy.deepcopy(layer).to("meta")(torch.zeros(1, 2, 6, 6, device="meta"))
    except Exception as error:
        plain = any(isinstance(v, Tensor) for m in layer.modules() for v in vars(m).values())
        what = "The mask is a plain tensor" if plain else "A tensor is made in forward, on the CPU"
        raise Mistake(
            f"{what}: on a GPU the layer would fail, because layer.to(device) moves parameters and "
            'buffers only. Keep the mask with self.register_buffer("mask", mask).'
        ) from error


def _check_training(layer: nn.Module, mask_type: str, size: int) -> None:
    """Takes one step of gradient descent and looks at what the masked weights did."""
    shut = ~raster_mask(mask_type, 1, 1, size)[0, 0]
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.randn(4, 2, 8, 8)).square().sum().backward()
    weights = [p for p in layer.parameters() if p.shape[-2:] == shut.shape and p.dim() == 4]
    felt = any((p.grad * shut).any() for p in weights if p.grad is not None)
    optimiser.step()
    if _wrong_taps(_open_taps(layer, size), ~shut):
        raise Mistake(
            "At first the mask holds, but after one step of the optimiser shut taps are awake: the "
            "mask was applied once, and the gradient filled the zeros. Multiply in every forward: "
            "self.weight * self.mask."
        )
    if felt:
        raise Mistake(
            "The output is right, but masked weights still get a gradient: overwriting them with "
            "zeros (weight.data *= mask) hides the mask from autograd. That gradient counts when "
            "gradients are clipped by their norm. Use the product self.weight * self.mask in the "
            "convolution."
        )


# -- which masks leak? ----------------------------------------------------------------------------

MASKS = {
    1: [[1, 1, 1], [1, 0, 0], [0, 0, 0]],
    2: [[1, 1, 0], [1, 1, 0], [1, 1, 0]],
    3: [[1, 1, 1], [1, 1, 0], [0, 0, 0]],
    4: [[1, 1, 0], [1, 0, 0], [0, 0, 0]],
    5: [[1, 1, 0], [1, 0, 0], [1, 0, 0]],
}
_LEAKS = {
    2: "it sees the pixel itself, the pixel below, and the one below to the left; all of them are yet to be drawn",
    3: "this is type B, and in the first layer its centre is the very value to predict",
    5: "its lower left tap reads a pixel of the next row. (It is the transposed mask: right when "
    "images are drawn column by column, wrong in raster order.)",
}
_HONEST = {
    1: "this is type A",
    4: "it wastes the pixel above to the right, which it could have used, but it sees nothing that "
    "comes later. A blind spot costs bits; a leak costs the meaning of the number",
}


@exercise
def check_leaking_masks(answer: Any) -> str:
    """Checks which of the five masks of the exercise leak when they are the first layer.

    Arguments:
        answer: the numbers of those that leak, in a list or a set.

    Example:
        >>> check_leaking_masks([1])  # doctest: +ELLIPSIS
        ✗ Not yet. Mask 1 does not leak: this is type A...
        >>> check_leaking_masks([2, 3])  # doctest: +ELLIPSIS
        ✗ Not yet. One more mask leaks...
    """
    answer = answer.tolist() if hasattr(answer, "tolist") else answer
    answer = [answer] if isinstance(answer, int) else answer
    if isinstance(answer, Iterable) and ... in list(answer):
        raise Unsolved
    if not isinstance(answer, Iterable) or not set(answer) <= set(MASKS):
        raise Mistake(f"Give the numbers of the masks that leak, like [1, 4]; you gave {answer!r}.")
    chosen = set(answer)
    for number in sorted(chosen - set(_LEAKS)):
        raise Mistake(f"Mask {number} does not leak: {_HONEST[number]}.")
    missing = sorted(set(_LEAKS) - chosen)
    if missing:
        number = "One more mask leaks" if len(missing) == 1 else f"{len(missing)} more masks leak"
        raise Mistake(
            f"{number}. Go through those that you left out: mark the pixel that the centre lies on, "
            "then ask of each 1 whether the pixel under it is drawn before."
        )
    return "2, 3 and 5 leak: " + "; ".join(f"{n}: {why}" for n, why in _LEAKS.items())


# -- colour ---------------------------------------------------------------------------------------


@exercise
def check_centre_tap(answer: Any) -> str:
    """Checks the 3×3 table that says which colour may see which inside one pixel.

    Arguments:
        answer: a function that maps "A" or "B" to a table `[3, 3]` of 0 and 1, rows the colour of
            the output, columns that of the input, both in the order R, G, B.

    Example:
        >>> check_centre_tap(lambda mask_type: torch.ones(3, 3))  # doctest: +ELLIPSIS
        ✗ Not yet. Type A: R sees R, the value that it predicts...
        >>> check_centre_tap(lambda mask_type: torch.ones(3, 3).tril(-1 if mask_type == "A" else 0))
        ✓ R before G before B: 3 open connections in type A, 6 in type B.
    """
    for mask_type in "AB":
        table = torch.as_tensor(ask(answer, mask_type))
        if table.shape != (3, 3):
            raise Mistake(f"Type {mask_type}: the table has shape {tuple(table.shape)}: give [3, 3].")
        if not ((table == 0) | (table == 1)).all():
            raise Mistake(f"Type {mask_type}: a connection is open, 1, or shut, 0; the table holds other numbers.")
        mistake = _wrong_table(table.bool(), mask_type)
        if mistake:
            raise Mistake(f"Type {mask_type}: {mistake}")
    return "R before G before B: 3 open connections in type A, 6 in type B."


def _wrong_table(table: Tensor, mask_type: str) -> str | None:
    truth = raster_mask(mask_type, 3, 3, 1, image_channels=3)[:, :, 0, 0]
    if torch.equal(table, truth):
        return None
    if torch.equal(table, truth.T):
        return (
            "the table is transposed. A row is an output, a column an input: B's row holds what B "
            "may see, and G sees R, not the other way round."
        )
    for seeing, seen in (table & ~truth).nonzero().tolist():
        if seeing == seen:
            return (
                f"{CHANNELS[seeing]} sees {CHANNELS[seen]}, the value that it predicts. The "
                "diagonal is open in type B only."
            )
        return f"{CHANNELS[seeing]} sees {CHANNELS[seen]}, which is drawn later."
    seeing, seen = (truth & ~table).nonzero()[0].tolist()
    if seeing == seen:
        return (
            f"{CHANNELS[seeing]} does not see {CHANNELS[seen]}. After the first layer its own "
            "features hold earlier values only: the diagonal is open in type B."
        )
    return f"{CHANNELS[seeing]} does not see {CHANNELS[seen]}, which is drawn before it."


# -- find the leaks -------------------------------------------------------------------------------


class Suspect(nn.Module):
    """A trained network of which nothing is shown but what it answers, and what it costs: `bits`, per pixel.

    Arguments:
        net: what answers, `[N, 1, H, W]` to logits `[N, 4, H, W]`.

    Example:
        >>> Suspect(nn.Identity())
        Suspect()
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.bits = net, float("nan")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * (2 / 3) - 1)

    def __repr__(self) -> str:
        return "Suspect()"


class _Rolled(MaskedConv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.roll(1, -1))


def _stem(mask_type: str) -> MaskedConv2d:
    return MaskedConv2d(mask_type, 1, 12, 5)


def _one_more_column() -> MaskedConv2d:
    stem = _stem("A")
    stem.mask[..., 2, 2:4] = True
    return stem


def _masked_once() -> nn.Conv2d:
    stem = nn.Conv2d(1, 12, 5, padding=2)
    stem.weight.data *= raster_mask("A", 1, 1, 5)
    return stem


FAULTS: dict[str, Callable[[], list[nn.Module]]] = {
    "InstanceNorm": lambda: [_stem("A"), nn.InstanceNorm2d(12)],
    "mask applied once": lambda: [_masked_once()],
    "honest": lambda: [_stem("A")],
    "roll": lambda: [_Rolled("B", 1, 12, 5)],
    "type B stem": lambda: [_stem("B")],
    "BatchNorm": lambda: [_stem("A"), nn.BatchNorm2d(12)],
    "one column too far": lambda: [_one_more_column()],
}
_WOULD = {
    "honest": "check_causal is silent about it, in both modes",
    "type B stem": "every pixel moves its own output, and no other output moves too early",
    "one column too far": "the pixel to the right moves the output beside it, on the same row, and nothing below acts",
    "mask applied once": "the training has opened all taps, so that rows below act",
    "BatchNorm": "all is well in evaluation mode; in train mode one image of a batch moves the outputs of another",
    "InstanceNorm": "the whole image acts on every pixel, in both modes, and no other image does",
    "roll": "the far end of a row acts on the beginning of it, and nothing else is wrong",
}


def make_suspects(images: Tensor, steps: int = 100) -> dict[int, Suspect]:
    """Trains the seven networks of the exercise, each on the same pictures in 4 levels.

    Arguments:
        images: uint8 `[N, 1, H, W]`, 256 levels, at least 10 × 10 pixels; the first 256 are learned from.
        steps: of training, with 32 images each.

    Returns:
        by number, from 1 on.

    Example:
        >>> suspects = make_suspects(torch.zeros(32, 1, 10, 10, dtype=torch.uint8), steps=1)
        >>> list(suspects), suspects[1](torch.zeros(1, 1, 4, 4)).shape
        ([1, 2, 3, 4, 5, 6, 7], torch.Size([1, 4, 4, 4]))
    """
    top, left = (side // 2 - 5 for side in images.shape[-2:])
    x = images[:256, :, top : top + 10, left : left + 10].cpu() // 64
    suspects = {}
    with torch.random.fork_rng(devices=[]):
        for number, fault in enumerate(FAULTS.values(), 1):
            torch.manual_seed(number)
            look, head = MaskedConv2d("B", 12, 12, 3), MaskedConv2d("B", 12, 4, 1)
            suspects[number] = Suspect(nn.Sequential(*fault(), nn.ReLU(), look, nn.ReLU(), head))
            _train(suspects[number], x, steps)
    return suspects


def _train(suspect: Suspect, x: Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(suspect.parameters(), lr=0.01)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (32,))]
        loss = F.cross_entropy(suspect(batch), batch[:, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        suspect.bits = float(F.cross_entropy(suspect(x), x[:, 0].long()) / math.log(2))
    suspect.requires_grad_(False)


@exercise
def check_leaks(answer: Any) -> str:
    """Checks what a learner says of the seven networks of `make_suspects`.

    Arguments:
        answer: `{number: name}`, for each number from 1 to 7 one of the names "honest", "type B stem", "one column
            too far", "mask applied once", "BatchNorm", "InstanceNorm", "roll"; `...` where nothing is said yet.

    Example:
        >>> check_leaks(dict.fromkeys(range(1, 8), ...))
        ✎ Not solved yet: fill in the answer above (does it return something?) and run the cell again.
        >>> check_leaks({1: "roll"})  # doctest: +ELLIPSIS
        ✗ Not yet. Networks 2, 3, 4, 5, 6, 7 have no name yet...
    """
    if not isinstance(answer, dict):
        raise Mistake('Give a dictionary from numbers to names, such as {1: "honest", 2: "roll"}.')
    given = {number: name for number, name in answer.items() if name is not ... and name is not None}
    if not given:
        raise Unsolved
    plain = {_plain(name): name for name in FAULTS}
    for number, name in given.items():
        if number not in range(1, len(FAULTS) + 1):
            raise Mistake(f"There is no network {number!r}: they have the numbers 1 to {len(FAULTS)}.")
        if _plain(name) not in plain:
            raise Mistake(f"{name!r} is none of the names: {', '.join(sorted(FAULTS))}.")
    missing = [number for number in range(1, len(FAULTS) + 1) if number not in given]
    if missing:
        verb = "s " if len(missing) > 1 else " "
        raise Mistake(
            f"Network{verb}{', '.join(map(str, missing))} ha{'ve' if len(missing) > 1 else 's'} no name yet. What does "
            "check_causal say?"
        )
    said = {number: plain[_plain(name)] for number, name in given.items()}
    wrong = [number for number, name in enumerate(FAULTS, 1) if said[number] != name]
    if not wrong:
        return (
            "All seven. Three leaks brought a wonderful loss; the other three look as ordinary as the honest network. "
            "The loss does not tell: ask."
        )
    first = wrong[0]
    raise Mistake(
        f"{len(wrong)} of 7 have another name. Look again at network {first}: if it were {said[first]!r}, then "
        f"{_WOULD[said[first]]}."
    )


def _plain(name: Any) -> str:
    return "".join(letter for letter in str(name).lower() if letter.isalnum()).removesuffix("2d")


# -- an order of one's own ------------------------------------------------------------------------


@exercise
def check_an_order(answer: Callable[[int, int], Tensor]) -> str:
    """Checks an order of the pixels for which one mask serves at every pixel, other than rows and columns.

    Arguments:
        answer: takes height and width; gives every pixel's rank, `[height, width]`, from 0 on.

    Example:
        >>> check_an_order(lambda height, width: torch.arange(height * width).view(height, width))
        ✗ Not yet. That is raster order, or a mirror image or the transpose of it: find one that is neither.
    """
    for height, width in ((5, 7), (8, 6)):
        rank = torch.as_tensor(ask(answer, height, width))
        if rank.shape != (height, width):
            raise Mistake(
                f"For {height} rows and {width} columns you give {tuple(rank.shape)}: a rank for every pixel."
            )
        if rank.flatten().sort()[0].tolist() != list(range(height * width)):
            raise Mistake(
                f"Each of the {height * width} pixels needs a rank of its own, from 0 to {height * width - 1}: some "
                "are missing or stand twice."
            )
        _same_mask_everywhere(rank)
        raster = torch.arange(height * width).view(height, width)
        columns = torch.arange(height * width).view(width, height).T
        mirrored = [order.flip(axes) for order in (raster, columns) for axes in ((), (0,), (1,), (0, 1))]
        if any(torch.equal(rank, order) for order in mirrored):
            raise Mistake("That is raster order, or a mirror image or the transpose of it: find one that is neither.")
    open_taps = int((rank[2:5, 1:4] < rank[3, 2]).sum()), int((rank[1:6, :5] < rank[3, 2]).sum())
    return f"One mask for every pixel: {open_taps[0]} of 9 taps are open, {open_taps[1]} of 25, as in every such order."


def _same_mask_everywhere(rank: Tensor) -> None:
    """Asks of each way to another pixel whether it leads to an earlier one, wherever it begins."""
    height, width = rank.shape
    for down in range(height):
        for right in range(1 - width, width):
            here = rank[: height - down, max(0, -right) : width - max(0, right)]
            there = rank[down:, max(0, right) : width - max(0, -right)]
            earlier = there < here
            if earlier.any() and not earlier.all():
                one, other = ((earlier == value).nonzero()[0] for value in (True, False))
                places = [(int(at[0]), int(at[1]) + max(0, -right)) for at in (one, other)]
                side = f"{abs(right)} to the {'right' if right > 0 else 'left'}"
                raise Mistake(
                    f"No single mask does this. {down} down and {side} lies an earlier pixel, seen from (row, column) "
                    f"{places[0]}; seen from {places[1]}, a later one."
                )
