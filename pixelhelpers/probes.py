"""Questions asked of any model: is it causal, do its probabilities sum to one, how far does it see?

A model that sees what it is asked to predict reaches a wonderful likelihood that means nothing.
The probes find that out by experiment: they change values of the input and watch the output. Every
probe works on a copy on the CPU, where the answer is yes or no in double precision; the model that was
given is never changed.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .layers import channel_groups
from .models.base import AutoregressiveModel, as_model

MOST_IMAGES = 200_000
PER_PRODUCT = 2048  # images of a data set compared at once
CHUNK = 64  # images asked about at once: bounds the memory, [64, 256, 28, 28] in double is 0.1 GB
DRAWS = 3  # random images per input value and mode: behind a dead ReLU one draw may see nothing


class CausalityError(AssertionError):
    """Raised by `check_causal`: an output depends on what is not drawn before it, or on nothing."""


# -- causality ------------------------------------------------------------------------------------


def check_causal(
    model: Callable[[Tensor], Tensor],
    shape: tuple[int, int, int] = (1, 8, 8),
    levels: int = 256,
    order: Tensor | None = None,
    own_value: bool = False,
) -> None:
    """Checks that outputs depend on earlier values only, and that some earlier value does act.

    One value of a random image at a time gets another random level; outputs of the same or of lower
    rank must stay as they are. One more image of the batch stays whole, and so must its outputs.
    This is repeated with several images in evaluation and in training mode (dropout off), and once
    more with random numbers for parameters that are still all zero: a gate that begins at zero
    hides what lies behind it.

    Arguments:
        model: a module or function that maps images `[N, C, H, W]`, float64 with integers in
            `[0, levels)`, to `[N, features, H, W]` (for C > 1 features belong to channels as in
            `layers.channel_groups`) or to `[N, levels, C, H, W]`. A module is copied; what a
            function calls is not, so give the module where there is one. One that insists on
            float32 is asked in float32, with a coarser tolerance. With classes, the label is 0.
        shape: (C, H, W) of the images; up to a few hundred values it is quick.
        levels: number of levels of a value, at least 2; a model of the package brings its own.
        order: int rank `[C, H, W]`; an output may depend on inputs of smaller rank. Default: the
            model's own `.order(shape)`, else raster order, then channel.
        own_value: whether an output may also depend on the very same value (a layer of type B).

    Raises:
        CausalityError: naming an output, the input that leaks into it and the likely mistake; also
            when no earlier value acts at all, or when an output is NaN or infinite.
        ValueError: when shapes do not fit.

    Example:
        >>> from pixelhelpers.layers import MaskedConv2d
        >>> check_causal(MaskedConv2d("A", 1, 8, 3))
        >>> check_causal(MaskedConv2d("B", 1, 8, 3), own_value=True)
        >>> check_causal(MaskedConv2d("B", 1, 8, 3))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        pixelhelpers.probes.CausalityError: output (channel 0, row ...
        Likely mistake: type B stem...
    """
    shape, levels = tuple(shape), _levels(model, levels)
    rank = _rank(model, shape, order)
    earlier = rank.flatten()[:, None] < rank.flatten()
    allowed = earlier | torch.eye(len(earlier), dtype=torch.bool) if own_value else earlier
    net, images = _prepare(model, shape, levels)
    find = partial(_find, images, allowed)

    alive = not allowed.any()  # a single value has no past that could act
    for training in (False, True):
        found = find(training, net)
        if found.leaks:
            raise CausalityError(_report(found, _cause(net, partial(find, training)), shape, rank))
        alive |= found.alive
    zeros = [name for name, value in _parameters(net) if not value.any()]
    if not alive:
        raise CausalityError(_dead(zeros, shape))
    if zeros:
        net = _without_zeros(net)
        if (found := find(False, net)).leaks:
            report = _report(found, _cause(net, partial(find, False)), shape, rank)
            raise CausalityError(f"{report} Hidden while these are all zero: {', '.join(zeros)}.")


def _levels(model: Callable, levels: int) -> int:
    levels = model.levels if isinstance(model, AutoregressiveModel) else levels
    if levels < 2:
        raise ValueError(f"levels is {levels}: give at least 2.")
    return levels


def _rank(model: Callable, shape: tuple[int, ...], order: Tensor | None) -> Tensor:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape is {shape}: give (channels, height, width).")
    if order is None and callable(getattr(model, "order", None)):
        order = model.order(shape)
    rank = _raster(shape) if order is None else torch.as_tensor(order).cpu()
    if rank.shape != shape:
        raise ValueError(f"order has shape {tuple(rank.shape)}: give one rank per value, {shape}.")
    return rank


def _raster(shape: tuple[int, int, int]) -> Tensor:
    channels, height, width = shape
    return torch.arange(math.prod(shape)).view(height, width, channels).permute(2, 0, 1)


# -- asking a copy --------------------------------------------------------------------------------


def _prepare(model: Callable, shape: tuple[int, ...], levels: int) -> tuple[Callable, Callable]:
    """Copies the model; returns the copy and `images(count, generator)`, its random images."""
    if not callable(model):
        raise TypeError(f"model is a {type(model).__name__}: give a module or a function.")
    net = copy.deepcopy(model).cpu().double() if isinstance(model, nn.Module) else model
    images = partial(_random_images, shape, levels, torch.float64)
    _set_mode(net, training=False)
    try:
        _ask(net, images(1, torch.Generator()))
    except RuntimeError:  # a forward with x.float() in it, or a function around a float32 module
        net = net.float() if isinstance(model, nn.Module) else model
        images = partial(_random_images, shape, levels, torch.float32)
        _ask(net, images(1, torch.Generator()))
    return net, images


def _random_images(
    shape: tuple[int, ...], levels: int, dtype: torch.dtype, count: int, generator: torch.Generator
) -> Tensor:
    return torch.randint(levels, (count, *shape), generator=generator).to(dtype)


def _set_mode(net: Callable, training: bool) -> None:
    if isinstance(net, nn.Module):
        net.train(training)
        for module in net.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()


def _ask(net: Callable, x: Tensor) -> Tensor:
    """Calls the copy. Chance inside (a functional dropout) falls the same way at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if isinstance(net, AutoregressiveModel):
            output = net.conditional_parameters(x, None if net.classes is None else 0)
        else:
            output = net(x)
    name = type(net).__name__ if isinstance(net, nn.Module) else getattr(net, "__name__", "model")
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"{name} returned {kind}: the probes read a tensor of real numbers.")
    fits = {4: (len(x), *x.shape[2:]), 5: x.shape}.get(output.dim())
    if fits != (len(output), *output.shape[2:]):
        raise ValueError(
            f"{name} maps images {tuple(x.shape)} to {tuple(output.shape)}: the probes read "
            "[N, features, H, W] or [N, levels, C, H, W]."
        )
    if not output.isfinite().all():
        *_, row, column = (~output.isfinite()).nonzero()[0].tolist()
        raise CausalityError(
            f"the output at row {row}, column {column} is NaN or infinite: nothing can be said of "
            "the model before all its outputs are finite."
        )
    return output


@torch.no_grad()
def _effects(net: Callable, training: bool, images: Callable) -> tuple[Tensor, Tensor]:
    """Measures what each input value moves, relative to the feature's size; 0 where nothing moves.

    Returns:
        `[inputs, outputs]` over all values of an image, and `[outputs]`: what moves in an image
        that stays as it is while the others of its batch change.
    """
    _set_mode(net, training)
    effects, crosstalk = [], []
    for seed in range(DRAWS):
        generator = torch.Generator().manual_seed(2 * seed + training)
        values = images(1, generator).numel()
        for inputs in torch.arange(values).split(CHUNK):
            x = images(len(inputs) + 1, generator)  # an image for each input, one to stay
            changed = x.clone()
            _change(changed[:-1], inputs, images, generator)
            moved = _moved(_ask(net, x), _ask(net, changed), x.shape[1])
            effects.append(moved[:-1].flatten(1))
            crosstalk.append(moved[-1].flatten())
    effects = torch.cat(effects).view(DRAWS, values, values)
    return effects.amax(0), torch.stack(crosstalk).amax(0)


def _change(x: Tensor, inputs: Tensor, images: Callable, generator: torch.Generator) -> None:
    """Gives value `inputs[k]` of image k another level, in place."""
    chosen = F.one_hot(inputs, x[0].numel()).bool().view(x.shape)
    other = images(len(x), generator)
    while (same := chosen & (other == x)).any():
        other = torch.where(same, images(len(x), generator), other)
    x[chosen] = other[chosen]


def _moved(before: Tensor, after: Tensor, channels: int) -> Tensor:
    """Compares two outputs value by value, `[N, C, H, W]`: relative change, 0 within rounding."""
    scale = torch.maximum(before.abs(), after.abs()).amax((0, -2, -1), keepdim=True)
    change = (after - before).abs() / scale.clamp(min=torch.finfo(scale.dtype).tiny)
    change[change < torch.finfo(change.dtype).eps ** 0.65] = 0  # 7e-11 in double precision
    if change.dim() == 5:
        return change.amax(1)
    groups = channel_groups(change.shape[1], channels)
    return torch.stack([change[:, groups == channel].amax(1) for channel in range(channels)], 1)


# -- naming the mistake ---------------------------------------------------------------------------


class _Finding(NamedTuple):
    """What `check_causal` saw in one mode."""

    leak: Tensor  # `[inputs, outputs]`: relative change where none is allowed
    crosstalk: Tensor  # `[outputs]`: relative change through another image of the batch
    alive: bool  # whether any allowed input acts

    @property
    def leaks(self) -> bool:
        return bool(self.leak.any() or self.crosstalk.any())


def _find(images: Callable, allowed: Tensor, training: bool, net: Callable) -> _Finding:
    effect, crosstalk = _effects(net, training, images)
    return _Finding(effect * ~allowed, crosstalk, bool((effect * allowed).any()))


def _cause(net: Callable, find: Callable[[Callable], _Finding]) -> str | None:
    """Tries remedies on copies: the one that cures the leak names the cause."""
    for remedy in (_remask, _drop_statistics, _pad_with_zeros):
        attempt = remedy(net)
        if attempt is not None and not find(attempt[0]).leaks:
            return attempt[1]
    return None


def _report(found: _Finding, cause: str | None, shape: tuple[int, ...], rank: Tensor) -> str:
    """Says which output sees which input, and the likely mistake."""
    if found.crosstalk.any():
        cause = cause or "images of a batch are mixed, by statistics over the batch or a reshape"
        where = _place(int(found.crosstalk.argmax()), shape)
        return f"output ({where}) changes with another image of its batch.\nLikely mistake: {cause}."
    shown, raster = found.leak, torch.equal(rank, _raster(shape))
    if cause is None:
        cause, shown = _pattern(found.leak, shape) if raster else _ranked_pattern(found.leak, rank)
    source, target = divmod(int((found.leak * (shown > 0)).argmax()), found.leak.shape[1])
    return (
        f"output ({_place(target, shape)}) changes with input ({_place(source, shape)}), "
        f"which is not drawn before it.\nLikely mistake: {cause}."
    )


def _place(value: int, shape: tuple[int, int, int]) -> str:
    _, height, width = shape
    pixel = value % (height * width)
    return f"channel {value // (height * width)}, row {pixel // width}, column {pixel % width}"


def _pattern(leak: Tensor, shape: tuple[int, int, int]) -> tuple[str, Tensor]:
    """Reads a mistake off where the leaks are; returns it and the leaks that show it."""
    sides = torch.meshgrid(*(torch.arange(side) for side in shape), indexing="ij")
    # How much later the input lies than the output, `[inputs, outputs]`.
    channels, below, right = (side.flatten()[:, None] - side.flatten() for side in sides)
    rank = _raster(shape).flatten()
    leaking, _, height, width = leak > 0, *shape
    far_reaching = (leaking | (rank[:, None] <= rank)).all(1) | ~leaking.any(1)
    across = (2 * below.abs() > height) | (2 * right.abs() > width)
    columns = int((right * (leaking & (below == 0))).amax())
    far = "one column" if columns == 1 else f"{columns} columns"
    sees_itself = leaking.diag().view(shape).flatten(1).any(1)  # each channel
    patterns = (
        (
            "every output sees the whole image: statistics over the whole image (InstanceNorm, "
            "GroupNorm), attention without a causal mask, or convolutions without any mask",
            leaking & far_reaching.all() & (leaking & (below > 0)).any(),
        ),
        (
            "it wraps around the border (torch.roll, or a slice moved across); pad with zeros",
            leaking & (across | ~leaking).all(),
        ),
        ("rows below are open: shut every kernel row under the centre", leaking & (below > 0)),
        (
            f"{far} too far to the right: on the centre row only what lies to the left of the centre may be open",
            leaking & (right > 0),
        ),
        (
            "a channel order mistake in colour: a channel may see the earlier channels of its own "
            "pixel (R before G before B), never itself or a later one",
            leaking & ((channels > 0) | ~sees_itself.all()),
        ),
        (
            "type B stem: it sees the pixel itself, or a skip leads around it; the first layer "
            "must be of type A (ask a bare layer of type B with own_value=True)",
            leaking,
        ),
    )
    return next((cause, shown) for cause, shown in patterns if shown.any())


def _ranked_pattern(leak: Tensor, rank: Tensor) -> tuple[str, Tensor]:
    if torch.equal(leak, leak.diag().diag()):
        return "type B stem: it sees the pixel itself; the first layer must be of type A", leak
    if not (leak * (rank.flatten()[:, None] != rank.flatten())).any():
        return "values see others that are drawn in the same turn; look at what their network is given", leak
    return "the model follows another order than the one it was asked for", leak


def _dead(zeros: list[str], shape: tuple[int, int, int]) -> str:
    hint = f" All zero: {', '.join(zeros)}; ask again after a training step." if zeros else ""
    return (
        f"no output depends on any earlier value of an image of shape {shape}: a dead head, which "
        f"ignores the image, would pass every test for leaks.{hint} (A deep stack of type A needs "
        "a larger shape.)"
    )


# -- remedies: what would cure the leak is its cause ----------------------------------------------


def _parameters(net: Callable) -> Iterator[tuple[str, nn.Parameter]]:
    return net.named_parameters() if isinstance(net, nn.Module) else iter(())


def _masked_weights(net: Callable) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Finds weights that have a mask: zeros and ones that their module, or its owner, holds."""
    for prefix, module in net.named_modules() if isinstance(net, nn.Module) else ():
        tensors = itertools.chain(
            module.buffers(recurse=False), module.parameters(recurse=False), vars(module).values()
        )
        masks = [t for t in tensors if isinstance(t, Tensor) and t.dim() > 1 and _is_mask(t)]
        for mask, (name, weight) in itertools.product(masks, module.named_parameters()):
            if _fits(mask.shape, weight.shape) and weight is not mask:
                yield f"{prefix}.{name}".lstrip("."), weight, mask.bool()


def _fits(mask: torch.Size, weight: torch.Size) -> bool:
    """Says whether a mask can be a weight's: features may share it, kernel taps may not."""
    sides = zip(reversed(mask), reversed(weight), strict=False)
    return len(mask) <= len(weight) and mask[-2:] == weight[-2:] and all(side in (1, full) for side, full in sides)


def _is_mask(tensor: Tensor) -> bool:
    return bool(((tensor == 0) | (tensor == 1)).all() and tensor.any() and not tensor.all())


def _faint_taps(weight: Tensor) -> Tensor:
    """Guesses a lost mask: kernel taps whose weights have only just begun to grow, `[k, k]`."""
    size = weight.abs().amax((0, 1))
    return (size > 0) & (size < 0.1 * size.amax())


@torch.no_grad()
def _remask(net: Callable) -> tuple[Callable, str] | None:
    net = copy.deepcopy(net)
    masked = {name: (weight, ~mask) for name, weight, mask in _masked_weights(net)}
    for name, weight in _parameters(net):
        if weight.dim() == 4 and name not in masked:
            masked[name] = (weight, _faint_taps(weight))
    if not any((weight * shut).any() for weight, shut in masked.values()):
        return None
    for weight, shut in masked.values():
        weight *= ~shut
    return net, (
        "mask applied only once (weights at masked taps are no longer zero); multiply with the mask in every forward"
    )


def _drop_statistics(net: Callable) -> tuple[Callable, str] | None:
    kinds = (
        nn.modules.batchnorm._BatchNorm,
        nn.modules.instancenorm._InstanceNorm,
        nn.GroupNorm,
        nn.LayerNorm,
        nn.LocalResponseNorm,
        nn.RMSNorm,
    )
    if not isinstance(net, nn.Module):
        return None
    holder = nn.ModuleList([copy.deepcopy(net)])  # so that the net itself may be such a layer
    found = [(name, module) for name, module in holder.named_modules() if isinstance(module, kinds)]
    if not found:
        return None
    for name, _ in found:
        holder.set_submodule(name, nn.Identity())
    mode = " in train mode" if net.training else ""
    layers = ", ".join(f"{type(module).__name__} ({name[2:] or 'top'})" for name, module in found)
    return holder[0], f"statistics over the whole image or batch: {layers}{mode}"


class _ZeroBorder(TorchFunctionMode):
    """While active, `torch.roll` and padding that wraps or mirrors bring in zeros instead."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (torch.roll, Tensor.roll):
            return _shift(*args, **kwargs)
        mode = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
        if function is F.pad and mode != "constant":
            return F.pad(*args[:2])
        return function(*args, **kwargs)


def _shift(input: Tensor, shifts, dims=None) -> Tensor:
    if dims is None:
        return _shift(input.flatten(), shifts, 0).view(input.shape)
    shifts, dims = ([side] if isinstance(side, int) else side for side in (shifts, dims))
    for shift, dim in zip(shifts, dims, strict=True):
        source = torch.arange(input.shape[dim]) - shift
        inside = (source >= 0) & (source < len(source))
        rolled = torch.roll(input, shift, dim).movedim(dim, -1) * inside
        input = rolled.movedim(-1, dim)
    return input


def _pad_with_zeros(net: Callable) -> tuple[Callable, str]:
    def bordered(x: Tensor) -> Tensor:
        with _ZeroBorder():
            return _ask(net, x)

    cause = "it wraps around the border (torch.roll, or padding that wraps or mirrors)"
    return bordered, f"{cause}; pad with zeros"


@torch.no_grad()
def _without_zeros(net: nn.Module) -> nn.Module:
    """Copies the net with random numbers for parameters that are all zero; masks stay masks."""
    net = copy.deepcopy(net)
    generator = torch.Generator().manual_seed(0)
    filled = []
    for name, value in _parameters(net):
        if not value.any() and value.requires_grad:
            value += torch.rand(value.shape, generator=generator, dtype=value.dtype) + 0.5
            filled.append(name)
    for name, weight, mask in _masked_weights(net):
        if name in filled:
            weight *= mask
    return net


# -- total probability ----------------------------------------------------------------------------


@torch.no_grad()
def total_probability(model: nn.Module, shape: tuple[int, ...], levels: int, label: int | None = None) -> float:
    """Adds up p(x) over every image of a tiny size.

    An honest model gives 1. A model with a type B stem sees what it predicts, so what it calls p(x)
    are not probabilities: once it copies its own value with certainty, it says p(x) = 1 of every
    image, in total 81 on 2x2 images with 3 levels; untrained it gives just some other number.

    Arguments:
        model: a model of the package, or a module that maps images `[N, C, H, W]`, floats with
            integers in `[0, levels)`, to logits `[N, levels, H, W]`, for colour
            `[N, levels, C, H, W]`.
        shape: (H, W) of grey images, or (C, H, W).
        levels: number of levels of a value; at most 200,000 images, levels^(C H W), can be asked.
        label: class in `[0, classes)` for a model with classes: the sum is 1 for every one of them.
            None takes class 0.

    Returns:
        the sum, computed in double precision in evaluation mode.

    Raises:
        ValueError: for too many images, or for other levels than a model of the package has.

    References:
        van den Oord et al. 2016, equation 1.

    Example:
        >>> from pixelhelpers.models import PixelCNN
        >>> round(total_probability(PixelCNN(levels=3, hidden=8, blocks=1), (2, 2), levels=3), 9)
        1.0
    """
    channels, height, width = shape if len(shape) == 3 else (1, *shape)
    values = channels * height * width
    count = levels**values
    if count > MOST_IMAGES:
        raise ValueError(
            f"there are {levels}^{values} = {count:,} images of shape {tuple(shape)} with {levels} "
            f"levels: take a smaller shape or fewer levels (at most {MOST_IMAGES:,} images)."
        )
    net = as_model(copy.deepcopy(model), levels=levels, image_channels=channels, shape=(height, width))
    if net.levels != levels:
        raise ValueError(f"levels is {levels}, but the model was built with levels={net.levels}.")
    net = net.cpu().double().eval()
    label = 0 if label is None and net.classes is not None else label
    place = levels ** torch.arange(values)
    total = 0.0
    for numbers in torch.arange(count).split(4096):
        x = (numbers[:, None] // place % levels).view(-1, channels, height, width)
        total += float(net.log_prob(x, label).double().exp().sum())
    return total


# -- receptive field ------------------------------------------------------------------------------


def receptive_field(
    model: Callable[[Tensor], Tensor],
    at: tuple[int, int],
    shape: tuple[int, int, int] = (1, 28, 28),
) -> Tensor:
    """Finds the input pixels that can move the output at one pixel.

    The answer is about the architecture, not about chance: a dead ReLU in an untrained model must
    not look like a hole. So gradients of the output are taken in double precision at random images,
    first with the model's own weights, then with positive ones: absolute values, each output's
    scaled to sum to 1; what a mask set to exactly 0 stays 0; a parameter that is zero throughout
    gets random numbers. On a bright image every ReLU of that copy is open and no two paths cancel.
    A pixel counts when any gradient differs from 0. Where there is none, because the model turns
    its input into integers, values are changed one at a time as in `check_causal`, which is slower.

    Arguments:
        model: as in `check_causal`.
        at: (row, column) of the output pixel.
        shape: (C, H, W) of the images.

    Returns:
        bool `[H, W]`: whether any channel of that input pixel moves any channel of the output pixel
            (so a colour model's pixel sees itself: its R moves its B).

    Raises:
        ValueError: when `at` lies outside the image.

    Example:
        >>> from pixelhelpers.layers import MaskedConv2d
        >>> receptive_field(MaskedConv2d("A", 1, 8, 3), at=(1, 1), shape=(1, 3, 3)).int()
        tensor([[1, 1, 1],
                [1, 0, 0],
                [0, 0, 0]], dtype=torch.int32)
    """
    row, column = _inside(at, *shape[1:])
    net, images = _prepare(model, tuple(shape), _levels(model, 256))
    x = images(2, torch.Generator().manual_seed(0))
    seen = _felt(net, images, x, row, column)
    if isinstance(net, nn.Module):
        bright = x.amax(0, keepdim=True).clamp(min=_levels(model, 256) // 2)
        seen |= _felt(_positive(net), images, bright, row, column)
    return seen.any(0)


def _felt(net: Callable, images: Callable, x: Tensor, row: int, column: int) -> Tensor:
    """Finds the inputs that move the output at (row, column) of this very net, `[C, H, W]`."""
    _set_mode(net, training=False)
    with torch.enable_grad():
        output = _ask(net, x.requires_grad_())[..., row, column]
    gradient = None
    if output.requires_grad:
        # Random weights, because the sum of a model's probabilities never moves.
        weights = torch.rand(output.shape, generator=torch.Generator().manual_seed(0))
        (gradient,) = torch.autograd.grad(output, x, weights.to(output), allow_unused=True)
    if gradient is not None:
        return (gradient != 0).any(0)
    effect, _ = _effects(net, False, images)
    return effect.view(-1, *x.shape[1:])[..., row, column].any(1).view(x.shape[1:])


@torch.no_grad()
def _positive(net: nn.Module) -> nn.Module:
    """Copies the net with positive weights: nothing is shut by chance and no paths cancel."""
    net = _without_zeros(net)
    for value in net.parameters():
        value.abs_()
        if value.dim() > 1:
            value /= value.flatten(1).sum(1).clamp(min=1e-300).view(-1, *[1] * (value.dim() - 1))
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    return net


# -- holes in it, and its weight -------------------------------------------------------------------


def blind_spot(
    model: Callable[[Tensor], Tensor],
    at: tuple[int, int],
    shape: tuple[int, int, int] = (1, 28, 28),
) -> Tensor:
    """Finds the holes: earlier pixels inside the reached window that the output at one pixel never sees.

    Stacked raster masks lose a corner above and to the right, however many layers there are. Pixels
    beyond the reached window are no holes: more layers would reach them.

    Arguments:
        model: as in `check_causal`.
        at: (row, column) of the output pixel.
        shape: (C, H, W) of the images.

    Returns:
        bool `[H, W]`: pixels of `reached_window` that are drawn before `at`, by the model's own order
            if it has one, else in raster order, and that `receptive_field` does not contain.

    Raises:
        ValueError: when `at` lies outside the image.

    References:
        van den Oord et al. 2016 (PixelCNN Decoders), section 2.2 and figure 1.

    Example:
        >>> from pixelhelpers.layers import MaskedConv2d
        >>> layers = nn.Sequential(MaskedConv2d("A", 1, 4, 3), MaskedConv2d("B", 4, 1, 3))
        >>> blind_spot(layers, at=(2, 2), shape=(1, 4, 5)).int()
        tensor([[0, 0, 0, 0, 0],
                [0, 0, 0, 0, 1],
                [0, 0, 0, 0, 0],
                [0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    seen = receptive_field(model, at, shape)
    rank = _rank(model, tuple(shape), None)
    earlier = rank.amax(0) < rank[:, at[0], at[1]].amin()
    return reached_window(seen, at) & earlier & ~seen


def reached_window(seen: Tensor, at: tuple[int, int]) -> Tensor:
    """Gives the smallest window around a pixel that holds all it sees, as wide to its right as to its left.

    As wide on both sides, because a network that cannot look to the right at all is blind there too.

    Arguments:
        seen: bool `[H, W]`, e.g. from `receptive_field`.
        at: (row, column) of the pixel.

    Returns:
        bool `[H, W]`: the rows from the first to the last one seen, that of the pixel included, and of
            these rows the columns that are no further away than the furthest one seen.

    Example:
        >>> seen = torch.zeros(3, 5, dtype=torch.bool)
        >>> seen[0, 1] = True
        >>> reached_window(seen, at=(1, 2)).int()
        tensor([[0, 1, 1, 1, 0],
                [0, 1, 1, 1, 0],
                [0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    place = torch.tensor([at])
    down, across = (torch.cat([seen.nonzero(), place]) - place).T
    rows, columns = (torch.arange(side) - middle for side, middle in zip(seen.shape, at, strict=True))
    return ((rows >= down.min()) & (rows <= down.max()))[:, None] & (columns.abs() <= across.abs().max())


def effective_receptive_field(
    model: nn.Module,
    images: Tensor,
    at: tuple[int, int],
    label: int | Tensor | None = None,
) -> Tensor:
    """Measures how much each input pixel moves the prediction at one pixel: seeing is not using.

    What is predicted there is the true level's log-probability, the quantity that training raises; its
    gradient says by how many nats a pixel that is one level brighter would change it.

    Arguments:
        model: a model of the package, or a module that maps images `[N, C, H, W]` to logits
            `[N, levels, H, W]`, for colour `[N, levels, C, H, W]`.
        images: integers `[N, C, H, W]`, values in `[0, levels)`.
        at: (row, column) of the pixel that is predicted (in colour: all its channels).
        label: class or classes `[N]`, for a model with classes.

    Returns:
        float `[H, W]`: the mean over images of the absolute gradient, added up over channels.

    Raises:
        ValueError: when `at` lies outside the images, or when the model has no gradient because it
            turns its input into integers.

    References:
        Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
        2016, section 3 (there the gradient of one output unit), https://arxiv.org/abs/1701.04128

    Example:
        >>> from pixelhelpers.models import PixelCNN
        >>> images = torch.randint(256, (4, 1, 9, 9))
        >>> weight = effective_receptive_field(PixelCNN(hidden=8, blocks=1), images, at=(4, 4))
        >>> bool((weight[:4] > 0).any()), bool((weight[5:] > 0).any())
        (True, False)
    """
    _, channels, height, width = images.shape
    row, column = _inside(at, height, width)
    net = as_model(copy.deepcopy(model), levels=None, image_channels=channels, shape=(height, width))
    net = net.cpu().float().eval().requires_grad_(False)
    label = net.labels(label, len(images))
    total = torch.zeros(height, width)
    for part in torch.arange(len(images)).split(16):
        levels = images[part].cpu()
        with torch.enable_grad():
            x = levels.float().requires_grad_()
            prediction = net.predict(x, None if label is None else label[part], at=(row, column, slice(None)))
            nats = prediction.log_prob(levels[:, :, row, column].long()).sum()
        gradient = torch.autograd.grad(nats, x, allow_unused=True)[0] if nats.requires_grad else None
        if gradient is None:
            raise ValueError(
                f"{type(model).__name__} has no gradient with respect to its input: it turns images into integers, "
                "or ignores them. `receptive_field` asks such a model, too."
            )
        total += gradient.abs().sum((0, 1))
    return total / len(images)


def _inside(at: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    row, column = at
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"at is {tuple(at)}: give (row, column) within {height} x {width}.")
    return row, column


# -- nearest neighbours ---------------------------------------------------------------------------


class Neighbours(NamedTuple):
    """What `nearest_neighbours` found, nearest first; of two at the same distance the earlier one first."""

    indices: Tensor  # int64 `[N, count]`: places in `among`
    distances: Tensor  # float64 `[N, count]`: root mean square difference, in levels


@torch.no_grad()
def nearest_neighbours(images: Tensor, among: Tensor, count: int = 1, shift: int = 1) -> Neighbours:
    """Finds the images that are nearest to the given ones, also when they lie a little aside.

    The plain distance compares pixel with pixel. It is fooled by a shift of one or two pixels: edges no longer
    meet, and some other image, often a dark or a smooth one, is nearer than the original. So each image is
    laid over every candidate with all shifts by up to `shift` pixels, up or down and left or right. The root
    mean square difference is taken over the values where both overlap, and the smallest counts. A copy has
    distance 0, and so has a shifted copy, whatever entered at its border.

    Arguments:
        images: integers `[N, C, H, W]`, such as samples of a model.
        among: integers `[M, C, H, W]`, such as its training images; they may be many.
        count: neighbours for each image, at most M.
        shift: largest shift in pixels, at most a quarter of the shorter side (small overlaps, of black corners
            say, would look alike); 0 gives the plain distance.

    Returns:
        `Neighbours` with `.indices` and `.distances`, both `[N, count]`.

    Raises:
        ValueError: for images of different shapes, or a count or shift beyond what there is.

    References:
        Theis, van den Oord, Bethge, "A note on the evaluation of generative models", 2016, section 3.4,
        https://arxiv.org/abs/1511.01844

    Example:
        >>> among = torch.randint(256, (50, 1, 8, 8), generator=torch.Generator().manual_seed(0))
        >>> moved = among[[7]].roll((1, -1), (2, 3))
        >>> nearest_neighbours(moved, among)
        Neighbours(indices=tensor([[7]]), distances=tensor([[0.]], dtype=torch.float64))
        >>> float(nearest_neighbours(moved, among, shift=0).distances) > 50
        True
    """
    if images.dim() != 4 or among.dim() != 4 or images.shape[1:] != among.shape[1:]:
        raise ValueError(
            f"images have shape {tuple(images.shape)}, and among {tuple(among.shape)}: give [N, C, H, W] and "
            "[M, C, H, W] of the same C, H, W."
        )
    if not 1 <= count <= len(among):
        raise ValueError(f"count is {count}: give 1 to {len(among)}, as many as there are images.")
    if not 0 <= shift <= min(images.shape[-2:]) // 4:
        raise ValueError(f"shift is {shift}: give 0 to {min(images.shape[-2:]) // 4}, a quarter of the shorter side.")
    found = [_nearest(part, among, count, shift) for part in images.cpu().split(CHUNK)]
    return Neighbours(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _nearest(images: Tensor, among: Tensor, count: int, shift: int) -> tuple[Tensor, Tensor]:
    """The nearest of `among` for a few images.

    |a - b|^2 = |a|^2 - 2 ab + |b|^2, so that matrix products do the work: with every shifted image, 0 where it
    does not overlap, and with every overlap. In double precision sums of squared levels are exact integers.
    """
    everywhere = torch.ones(1, *images.shape[1:], dtype=torch.double)
    overlaps = torch.cat(_shifts(everywhere, shift)).flatten(1)  # [shifts, C H W]
    moved = torch.stack(_shifts(images.double(), shift)).flatten(2)  # [shifts, N, C H W]
    squares = moved.square().sum(-1)
    sizes = overlaps.sum(1)
    nearest = torch.empty(len(images), 0, dtype=torch.double)
    indices = torch.empty(len(images), 0, dtype=torch.long)
    for start in range(0, len(among), PER_PRODUCT):
        part = among[start : start + PER_PRODUCT].cpu().double().flatten(1)  # [M, C H W]
        products = torch.einsum("snd,md->snm", moved, part)
        theirs = overlaps @ part.square().T  # [shifts, M]
        distance = (squares[..., None] - 2 * products + theirs[:, None]) / sizes[:, None, None]
        nearest = torch.cat([nearest, distance.amin(0)], 1)
        indices = torch.cat([indices, torch.arange(start, start + len(part)).expand(len(images), -1)], 1)
        nearest, order = nearest.sort(dim=1, stable=True)
        nearest, indices = nearest[:, :count], indices.gather(1, order[:, :count])
    return indices, nearest.sqrt()


def _shifts(images: Tensor, most: int) -> list[Tensor]:
    """The images moved by every shift up to `most` pixels, 0 where they came from outside."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (most, most, most, most))
    steps = range(2 * most + 1)
    return [padded[..., row : row + height, column : column + width] for row in steps for column in steps]
