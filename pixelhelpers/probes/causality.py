"""Is it causal? `check_causal` asks and names the likely mistake; `searched` says where it looked, `effects` what acts.

A model that sees what it is asked to predict reaches a wonderful likelihood that means nothing. The probe
finds that out by experiment: it changes values of the input and watches the output.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..arguments import integers
from ..errors import CausalityError, require
from ..layers import channel_groups
from ..models.own import OwnModule, facts_of, sides, unwrapped
from ..stepping import raster_order
from .asking import (
    CHUNK,
    Subject,
    ask,
    copied,
    labels_for,
    masked_weights,
    name_of,
    parameters_of,
    prepare,
    rank_of,
    set_mode,
    shape_of,
    without_zeros,
    zeros_of,
)

DRAWS = 3  # random images per input value and mode: behind a dead ReLU one draw may see nothing
BUDGET = 2**16  # pixels that a walk may look at; up to 16 x 16 each value is a step of its own
FORBIDDING = 1e8  # from this size on a number says that a level cannot be
FEW = 8  # steps of a walk at the model's own size, where a smaller one has been walked with all


def check_causal(
    model: Callable[[Tensor], Tensor],
    shape: tuple[int, int, int] | None = None,
    levels: int | None = None,
    order: Tensor | None = None,
    own_value: bool = False,
    labels: Sequence[int] | None = None,
) -> None:
    """Checks that outputs depend on earlier values only, and that some earlier value does act.

    One image is turned into another, the latest value first, one value at a time: from random levels to others,
    from all 0 to all at the highest level and back, and from a mixture of these two to random levels. At every
    step outputs of the same or of lower rank must stay as they are. One more image of the batch stays whole,
    and so must its outputs. This is done in evaluation and in training mode (dropout off), with every class in
    turn, and once more with random numbers for parameters and buffers that are all zero: a gate that begins at
    zero hides what lies behind it. Of large images, and at the model's own size, a step changes many values.

    What this cannot find: a leak that only some particular image opens, or a class that was not asked; at the
    model's own size, one at a few places only; one behind a gate that is shut by other means than zeros, such as
    a number in Python or a sigmoid of -1000. Nor can it find that labels hold what they should foretell.

    Arguments:
        model: a module or function that maps images `[N, C, H, W]`, float64 with integers in
            `[0, levels)`, to `[N, features, H, W]` (for C > 1 features belong to channels as in
            `layers.channel_groups`) or to `[N, levels, C, H, W]`. A module is opened where it is wrapped
            (compiled, DataParallel) and copied; what a function calls is not, so give the module where there
            is one. What it says of itself, or was told by `as_model`, is honoured. One that insists on float32 is
            asked in float32, with a coarser tolerance, and one that insists on integers in int64. One that knows
            classes gets a label, too, int64 `[N]`. Logits of -inf, which forbid a level, may come and go with
            earlier values like all others.
        shape: (C, H, W) of the images, or (H, W). Default: 8 x 8, or 16 x 16 if it takes no smaller ones; and the
            model's own size besides, if it declares an `image_size`.
        levels: number of levels of a value, at least 2; default: the model's own `levels`, else 256.
        order: int rank `[C, H, W]`; an output may depend on inputs of smaller rank. Default: the
            model's own `order`, ranks or a function from the shape to these, else raster order, then channel.
        own_value: whether an output may also depend on the very same value (a layer of type B).
        labels: the classes to ask about. Default: all that the model knows.

    Raises:
        CausalityError: naming an output, the input that leaks into it and the likely mistake; also
            when no earlier value acts at all, when an output is NaN or infinite, or when the same images
            are answered differently a second time.
        ValueError: when shapes, levels, labels or ranks do not fit, or the model takes no such images.

    Example:
        >>> from pixelhelpers.layers import MaskedConv2d
        >>> check_causal(MaskedConv2d("A", 1, 8, 3))
        >>> check_causal(MaskedConv2d("B", 1, 8, 3), own_value=True)
        >>> check_causal(MaskedConv2d("B", 1, 8, 3))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        pixelhelpers.errors.CausalityError: output (channel 0, row ...
        Likely mistake: type B stem...
    """
    searched(model, shape, levels, order, own_value, labels)


def searched(
    model: Callable,
    shape: Sequence[int] | None,
    levels: int | None,
    order: Tensor | None = None,
    own_value: bool = False,
    labels: Sequence[int] | None = None,
) -> list[tuple[int, int, int]]:
    """Does what `check_causal` promises, and returns the shapes of the images that were asked about."""
    model = unwrapped(model)
    if order is None:
        order = model.own_order if isinstance(model, OwnModule) else facts_of(model).get("order")
    subject, *larger = _subjects(model, shape, order, levels, labels)
    search = _Search(subject, rank_of(model, subject.shape, order), own_value)
    alive = not search.anything_allowed  # a single value has no past that could act
    for training in (False, True):
        search.demand_certainty(training)
        alive |= search.demand_no_leak(subject.net, training)
    zeros = zeros_of(subject.net)
    require(alive, _dead(zeros, subject.shape), CausalityError)
    searches = [search, *(_Search(other, rank_of(model, other.shape, order), own_value, FEW) for other in larger)]
    for each in searches[1:]:
        each.demand_no_leak(each.subject.net, training=False)
    for each in searches if zeros else ():
        hidden = f" Hidden while these are all zero: {', '.join(zeros)}."
        each.demand_no_leak(without_zeros(each.subject.net), training=False, hidden=hidden)
    return [each.subject.shape for each in searches]


def _subjects(
    model: Callable, shape: Sequence[int] | None, order: Any, levels: int | None, labels: Sequence[int] | None
) -> list[Subject]:
    """Prepares a model for images of the size asked for; or for small ones that it takes, and its own size."""
    if shape is None and order is not None and not callable(order):
        shape = integers("order", order, "whole numbers, a rank per value").shape
    if shape is not None:
        return [prepare(model, shape_of(model, shape), levels, labels)]
    own = facts_of(model).get("image_size")
    own = own and sides(own)
    sizes = dict.fromkeys(((8, 8), (16, 16), *([] if own is None else [own])))
    refusals = []
    for size in sizes:
        try:
            small = prepare(model, shape_of(model, size), levels, labels)
            break
        except ValueError as error:
            refusals.append(error)
    else:
        raise refusals[0]
    if own in (None, small.shape[1:]):
        return [small]
    return [small, prepare(model, shape_of(model, own), levels, labels)]


@torch.no_grad()
def effects(net: Callable, training: bool, images: Callable, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
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
            changed = x[:-1].clone()
            _change(changed, inputs, images, generator)
            moved, others = _differences(net, x[:-1], changed, x[-1:], label)
            effects.append(moved)
            crosstalk.append(others)
    effects = torch.cat(effects).view(DRAWS, values, values)
    return effects.amax(0), torch.stack(crosstalk).amax(0)


@torch.no_grad()
def _differences(
    net: Callable, before: Tensor, after: Tensor, stay: Tensor, label: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Asks about images and changed ones in the same places of a batch, beside one that stays.

    Arguments:
        before, after: `[N, C, H, W]`.
        stay: `[1, C, H, W]`.
        label: `[N]`, or `[1]` for all, or None.

    Returns:
        what moves, `[N, outputs]`, and what moves in the image that stays, `[outputs]`.
    """
    effect, crosstalk = [], []
    for part in torch.arange(len(before)).split(CHUNK):
        chosen = None if label is None else label.expand(len(before))[torch.cat([part, part[:1]])]
        first, second = (ask(net, torch.cat([x[part], stay]), chosen) for x in (before, after))
        moved = _moved(first, second, stay.shape[1]).flatten(1)
        effect.append(moved[:-1])
        crosstalk.append(moved[-1])
    return torch.cat(effect), torch.stack(crosstalk).amax(0)


def _change(x: Tensor, inputs: Tensor, images: Callable, generator: torch.Generator) -> None:
    """Gives value `inputs[k]` of image k another level, in place."""
    chosen = F.one_hot(inputs, x[0].numel()).bool().view(x.shape)
    other = images(len(x), generator)
    while (same := chosen & (other == x)).any():
        other = torch.where(same, images(len(x), generator), other)
    x[chosen] = other[chosen]


def _moved(before: Tensor, after: Tensor, channels: int) -> Tensor:
    """Compares two outputs value by value, `[N, C, H, W]`: relative change, 0 within rounding.

    Relative to the feature's largest number; but what forbids a level, such as -1e9, must not make others look small.
    """
    size = torch.maximum(before.abs(), after.abs())
    forbids = size >= FORBIDDING
    scale = torch.where(forbids, size, size.masked_fill(forbids, 0).amax((0, -2, -1), keepdim=True))
    change = (after - before).abs() / scale.clamp(min=torch.finfo(scale.dtype).tiny)
    change[change < torch.finfo(change.dtype).eps ** 0.65] = 0  # 7e-11 in double precision
    if change.dim() == 5:
        return change.amax(1)
    groups = channel_groups(change.shape[1], channels)
    return torch.stack([change[:, groups == channel].amax(1) for channel in range(channels)], 1)


# -- the search -----------------------------------------------------------------------------------


class _Finding(NamedTuple):
    """What was seen in one mode."""

    inputs: Tensor  # `[rows]`: values that leak
    leak: Tensor  # `[rows, outputs]`: relative change where none is allowed
    crosstalk: Tensor  # `[outputs]`: relative change through another image of the batch
    alive: bool  # whether any allowed input acts
    labels: Tensor | None = None  # `[rows]`: the classes that were asked

    @property
    def leaks(self) -> bool:
        return bool(self.leak.any() or self.crosstalk.any())


class _Search:
    """The search for leaks in images of one size.

    Arguments:
        subject: the model.
        rank: int64 `[C, H, W]`.
        own_value: whether an output may depend on its own value.
        steps: how many a walk may take; default: as many as are quick.
    """

    def __init__(self, subject: Subject, rank: Tensor, own_value: bool, steps: int | None = None):
        self.subject, self.rank, self.own_value = subject, rank.flatten(), own_value
        self.steps = min(rank.numel(), steps or max(FEW, BUDGET // rank[0].numel()))
        self.latest_first = self.rank.argsort(descending=True, stable=True)

    @property
    def anything_allowed(self) -> bool:
        return self.own_value or bool((self.rank != self.rank[0]).any())

    def demand_certainty(self, training: bool) -> None:
        """Refuses a model that answers the same images in two ways."""
        set_mode(self.subject.net, training)
        x = self.subject.images(4, torch.Generator().manual_seed(0))
        net, twice = self.subject.net, [ask(self.subject.net, x, labels_for(self.subject, 4)) for _ in range(2)]
        if (moved := _moved(*twice, x.shape[1])).any():
            raise CausalityError(
                f"{name_of(net)} is not deterministic: asked twice about the same images"
                f"{' in train mode' if training else ''}, its outputs differ by {float(moved.max()):.2g} of their "
                "size. Chance of NumPy or Python, or a counter outside of the module? Take chance from torch, which "
                "is seeded here, or leave it out."
            )

    def demand_no_leak(self, net: Callable, training: bool, hidden: str = "") -> bool:
        """Raises when there is a leak; returns whether an allowed input acts."""
        find = partial(self.walk, training=training)
        found = find(net)
        if not found.leaks:
            return found.alive
        classes = _some_classes(found.labels, self.subject.labels)
        if self.steps == len(self.rank):  # single changes of random images show more plainly what leaks where
            asked = self.subject.labels if found.labels is None or len(found.labels) == 0 else found.labels
            label = None if asked is None else asked.min()[None]
            singly = partial(self.one_by_one, training=training, label=label)
            if (closer := singly(net)).leaks:
                found, find = closer, singly
        report = _report(found, _cause(net, find), self.subject.shape, self.rank)
        raise CausalityError(f"{report}{classes}{hidden}")

    def one_by_one(self, net: Callable, training: bool, label: Tensor | None) -> _Finding:
        """Changes single values of random images."""
        effect, crosstalk = effects(net, training, self.subject.images, label)
        allowed = self.rank[:, None] < self.rank
        if self.own_value:
            allowed |= torch.eye(len(allowed), dtype=torch.bool)
        leak = effect * ~allowed
        inputs = leak.any(1).nonzero().flatten()
        return _Finding(inputs, leak[inputs], crosstalk, bool((effect * allowed).any()))

    def walk(self, net: Callable, training: bool) -> _Finding:
        """Turns images into others, the latest values first, and watches the earlier outputs."""
        set_mode(net, training)
        generator = torch.Generator().manual_seed(int(training))
        found = []
        for turn, (start, end) in enumerate(self._walks(generator)):
            cuts = torch.randperm(len(self.rank) - 1, generator=generator)[: self.steps - 1]
            begins = torch.zeros(len(self.rank), dtype=torch.long)
            begins[cuts + 1] = 1
            when = torch.empty_like(begins)
            when[self.latest_first] = begins.cumsum(0)
            label = labels_for(self.subject, self.steps, turn)
            stay = self.subject.images(1, generator)
            found.append(self._step_through(net, start, end, when, self.steps, label, stay))
        labels = None if self.subject.labels is None else torch.cat([each.labels for each in found])
        return _Finding(
            torch.cat([each.inputs for each in found]),
            torch.cat([each.leak for each in found]),
            torch.stack([each.crosstalk for each in found]).amax(0),
            any(each.alive for each in found),
            labels,
        )

    def _walks(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of images `[1, C, H, W]` that differ in every value: random ones and the extremes."""
        levels, images = self.subject.levels, self.subject.images
        some = images(1, generator)
        lowest, highest = torch.zeros_like(some), torch.full_like(some, levels - 1)
        mixture = torch.where(torch.rand(some.shape, generator=generator) < 0.5, lowest, highest)
        steps = torch.randint(1, levels, (2, *some.shape), generator=generator)
        yield some, (some + steps[0]) % levels
        yield lowest, highest
        yield highest, lowest
        yield mixture, (mixture + steps[1]) % levels

    def _step_through(
        self, net: Callable, start: Tensor, end: Tensor, when: Tensor, count: int, label: Tensor | None, stay: Tensor
    ) -> _Finding:
        """Walks from `start` to `end`: value v changes at step `when[v]` of `count`; -1: before the first."""
        numbers = torch.arange(count + 1)
        path = torch.where(when.view(start[0].shape) < numbers.view(-1, 1, 1, 1), end, start)
        effect, crosstalk = _differences(net, path[:-1], path[1:], stay, label)
        changes = when == numbers[:-1, None]  # [steps, values]
        earliest = self.rank.where(changes, self.rank.max()).amin(1, keepdim=True)
        must_stay = self.rank <= earliest
        if self.own_value:
            must_stay &= ~changes
        _, others = _differences(net, start, end, stay, label if label is None else label[:1])  # all at once
        leak, alive = effect * must_stay, bool((effect * ~must_stay).any())
        rows = leak.any(1).nonzero().flatten()
        if len(rows) and changes.sum(1).max() > 1:  # which value of the step was it?
            worst = int(leak.amax(1).argmax())
            of_step = changes[worst][self.latest_first]
            closer = torch.where(when < worst, -1, len(of_step))
            closer[self.latest_first[of_step]] = torch.arange(int(of_step.sum()))
            label = None if label is None else label[worst : worst + 1]
            singly = self._step_through(net, start, end, closer, int(of_step.sum()), label, stay)
            if singly.leaks:
                return singly._replace(alive=alive)
        inputs = changes[rows].int().argmax(1)
        crosstalk = torch.maximum(crosstalk, others)
        return _Finding(inputs, leak[rows], crosstalk, alive, None if label is None else label.expand(count)[rows])


def _some_classes(leaking: Tensor | None, asked: Tensor | None) -> str:
    """Names the classes that leak, where not all do."""
    if leaking is None or len(leaking) == 0 or len(classes := leaking.unique()) == len(asked):
        return ""
    return f" ({'class' if len(classes) == 1 else 'classes'} {', '.join(map(str, classes.tolist()))})"


# -- naming the mistake ---------------------------------------------------------------------------


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
    shown, raster = found.leak, torch.equal(rank, raster_order(shape).flatten())
    if cause is None:
        cause, shown = _pattern(found, shape) if raster else _ranked_pattern(found, rank)
    row, target = divmod(int((found.leak * (shown > 0)).argmax()), found.leak.shape[1])
    return (
        f"output ({_place(target, shape)}) changes with input ({_place(int(found.inputs[row]), shape)}), "
        f"which is not drawn before it.\nLikely mistake: {cause}."
    )


def _place(value: int, shape: tuple[int, int, int]) -> str:
    channel, row, column = (int(number) for number in torch.unravel_index(torch.tensor(value), shape))
    return f"channel {channel}, row {row}, column {column}"


def _pattern(found: _Finding, shape: tuple[int, int, int]) -> tuple[str, Tensor]:
    """Reads a mistake off where the leaks are; returns it and the leaks that show it."""
    sides = [side.flatten() for side in torch.meshgrid(*(torch.arange(side) for side in shape), indexing="ij")]
    # How much later the input lies than the output, `[rows, outputs]`.
    channels, below, right = (side[found.inputs, None] - side for side in sides)
    rank, own = raster_order(shape).flatten(), found.inputs[:, None] == torch.arange(found.leak.shape[1])
    leaking, _, height, width = found.leak > 0, *shape
    far_reaching = (leaking | (rank[found.inputs, None] <= rank)).all(1)
    across = (2 * below.abs() > height) | (2 * right.abs() > width)
    columns = int((right * (leaking & (below == 0))).amax())
    far = "one column" if columns == 1 else f"{columns} columns"
    sees_itself = (leaking & own).any(0).view(shape).flatten(1).any(1)  # each channel
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


def _ranked_pattern(found: _Finding, rank: Tensor) -> tuple[str, Tensor]:
    leak = found.leak
    if not (leak * (found.inputs[:, None] != torch.arange(len(rank)))).any():
        return "type B stem: it sees the pixel itself; the first layer must be of type A", leak
    if not (leak * (rank[found.inputs, None] != rank)).any():
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
    net = copied(net)
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
    net = copied(net)
    holder = net if isinstance(net, OwnModule) else nn.ModuleDict({"module": net})  # the net may be such a layer itself
    found = [(name, module) for name, module in holder.named_modules() if isinstance(module, kinds)]
    if not found:
        return None
    for name, _ in found:
        holder.set_submodule(name, nn.Identity())
    mode = " in train mode" if net.training else ""
    layers = ", ".join(f"{type(module).__name__} ({name[len('module.') :] or 'top'})" for name, module in found)
    return net if holder is net else holder["module"], f"statistics over the whole image or batch: {layers}{mode}"


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
    def bordered(x: Tensor, label: Tensor | None = None) -> Tensor:
        with _ZeroBorder():
            return ask(net, x, label)

    cause = "it wraps around the border (torch.roll, or padding that wraps or mirrors)"
    return bordered, f"{cause}; pad with zeros"
