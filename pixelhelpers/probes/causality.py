"""Is it causal? `check_causal` measures what acts on what, `effects`, and names the likely mistake.

A model that sees what it is asked to predict reaches a wonderful likelihood that means nothing. The probe
finds that out by experiment: it changes values of the input and watches the output.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..errors import CausalityError, require
from ..layers import channel_groups
from ..models.own import model_or_layer
from ..stepping import raster_order
from .asking import CHUNK, ask, known_levels, masked_weights, parameters_of, prepare, rank_of, set_mode, without_zeros

DRAWS = 3  # random images per input value and mode: behind a dead ReLU one draw may see nothing


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
        pixelhelpers.errors.CausalityError: output (channel 0, row ...
        Likely mistake: type B stem...
    """
    shape = tuple(shape)
    model = model_or_layer(model, shape)
    levels = known_levels(model, levels)
    rank = rank_of(model, shape, order)
    earlier = rank.flatten()[:, None] < rank.flatten()
    allowed = earlier | torch.eye(len(earlier), dtype=torch.bool) if own_value else earlier
    net, images = prepare(model, shape, levels)
    find = partial(_find, images, allowed)

    alive = not allowed.any()  # a single value has no past that could act
    for training in (False, True):
        found = find(training, net)
        if found.leaks:
            raise CausalityError(_report(found, _cause(net, partial(find, training)), shape, rank))
        alive |= found.alive
    zeros = [name for name, value in parameters_of(net) if not value.any()]
    require(alive, _dead(zeros, shape), CausalityError)
    if zeros:
        net = without_zeros(net)
        if (found := find(False, net)).leaks:
            report = _report(found, _cause(net, partial(find, False)), shape, rank)
            raise CausalityError(f"{report} Hidden while these are all zero: {', '.join(zeros)}.")


@torch.no_grad()
def effects(net: Callable, training: bool, images: Callable) -> tuple[Tensor, Tensor]:
    """Measures what each input value moves, relative to the feature's size; 0 where nothing moves.

    Returns:
        `[inputs, outputs]` over all values of an image, and `[outputs]`: what moves in an image
        that stays as it is while the others of its batch change.
    """
    set_mode(net, training)
    effects, crosstalk = [], []
    for seed in range(DRAWS):
        generator = torch.Generator().manual_seed(2 * seed + training)
        values = images(1, generator).numel()
        for inputs in torch.arange(values).split(CHUNK):
            x = images(len(inputs) + 1, generator)  # an image for each input, one to stay
            changed = x.clone()
            _change(changed[:-1], inputs, images, generator)
            moved = _moved(ask(net, x), ask(net, changed), x.shape[1])
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
    effect, crosstalk = effects(net, training, images)
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
    shown, raster = found.leak, torch.equal(rank, raster_order(shape))
    if cause is None:
        cause, shown = _pattern(found.leak, shape) if raster else _ranked_pattern(found.leak, rank)
    source, target = divmod(int((found.leak * (shown > 0)).argmax()), found.leak.shape[1])
    return (
        f"output ({_place(target, shape)}) changes with input ({_place(source, shape)}), "
        f"which is not drawn before it.\nLikely mistake: {cause}."
    )


def _place(value: int, shape: tuple[int, int, int]) -> str:
    channel, row, column = (int(number) for number in torch.unravel_index(torch.tensor(value), shape))
    return f"channel {channel}, row {row}, column {column}"


def _pattern(leak: Tensor, shape: tuple[int, int, int]) -> tuple[str, Tensor]:
    """Reads a mistake off where the leaks are; returns it and the leaks that show it."""
    sides = torch.meshgrid(*(torch.arange(side) for side in shape), indexing="ij")
    # How much later the input lies than the output, `[inputs, outputs]`.
    channels, below, right = (side.flatten()[:, None] - side.flatten() for side in sides)
    rank = raster_order(shape).flatten()
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


def _faint_taps(weight: Tensor) -> Tensor:
    """Guesses a lost mask: kernel taps whose weights have only just begun to grow, `[k, k]`."""
    size = weight.abs().amax((0, 1))
    return (size > 0) & (size < 0.1 * size.amax())


@torch.no_grad()
def _remask(net: Callable) -> tuple[Callable, str] | None:
    net = copy.deepcopy(net)
    masked = {name: (weight, ~mask) for name, weight, mask in masked_weights(net)}
    for name, weight in parameters_of(net):
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
            return ask(net, x)

    cause = "it wraps around the border (torch.roll, or padding that wraps or mirrors)"
    return bordered, f"{cause}; pad with zeros"
