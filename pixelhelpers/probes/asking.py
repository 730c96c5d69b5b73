"""How a model is asked: `prepare` copies it, `ask` calls the copy, `set_mode`, and parameters and masks are found.

Every probe works on a copy on the CPU, where the answer is yes or no in double precision; the model that was
given is never changed.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..arguments import image_shape, integers, shown, whole
from ..errors import CausalityError, brief, require
from ..models.base import AutoregressiveModel, at_least
from ..models.own import OwnModule, facts_of, model_or_layer, ranks, sides, unwrapped
from ..stepping import raster_order

CHUNK = 64  # images asked about at once: bounds the memory, [64, 256, 28, 28] in double is 0.1 GB
MOST_VALUES = 200_000  # of an image: 256 x 256 in colour
LAYOUTS = ("NHWL", "NLWH", "NCLHW", "NCHWL", "NHWCL", "NHWLC", "NLHWC")  # of outputs that only want a permutation


class Subject(NamedTuple):
    """A model as the probes ask it."""

    net: Callable  # the copy
    shape: tuple[int, int, int]  # of an image
    images: Callable  # random images: `images(count, generator)`
    levels: int
    labels: Tensor | None  # the classes to ask about, None for a model without


def name_of(model: Callable) -> str:
    """Gives what a model is called in a message."""
    model = _named(model)
    return type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", "model")


def _named(net: Callable) -> Callable:
    """What somebody has made, by whose names its parts are called."""
    return net.module if isinstance(net, OwnModule) else net


# -- what is known of a model, and what was asked ---------------------------------------------------


def shape_of(model: Callable, shape: Sequence[int] | None = None) -> tuple[int, int, int]:
    """Gives (channels, height, width): as asked for, else as the model says, else of a grey image of 28 x 28."""
    facts = facts_of(unwrapped(model))
    channels, *size = image_shape(sides(facts.get("image_size", 28)) if shape is None else shape)
    complete = (channels or facts.get("image_channels", 1), *size)
    values = math.prod(complete)
    require(values <= MOST_VALUES, f"shape is {complete}, {values:,} values: give at most {MOST_VALUES:,}.")
    return complete


def known_levels(model: Callable, levels: int | None) -> int:
    """Gives the number of levels: as asked for, else the model's own, else 256."""
    own = facts_of(model).get("levels")
    levels = whole("levels", levels if levels is not None else own or 256)
    at_least(2, levels=levels)
    require(own in (None, levels), f"levels is {levels}, but the model was built with levels={own}.")
    return levels


def known_labels(model: Callable, labels: Any) -> Tensor | None:
    """Gives the classes to ask about: as asked for, else all that the model knows; None where it knows none."""
    classes = model.classes if isinstance(model, AutoregressiveModel) else None
    if labels is None:
        return None if classes is None else torch.arange(classes)
    labels = integers("labels", labels, expected := "one class or more, or None")
    require(labels.dim() <= 1 and labels.numel() > 0, f"labels have shape {tuple(labels.shape)}: give {expected}.")
    require(classes is not None, f"labels are {labels.tolist()}, but {name_of(model)} knows no classes: give None.")
    return model.labels(labels.view(-1), labels.numel())


def rank_of(model: Callable, shape: tuple[int, int, int], order: Any) -> Tensor:
    """Gives the rank of every value: as asked for, else the model's own, else raster order."""
    order = facts_of(unwrapped(model)).get("order") if order is None else order
    return raster_order(shape) if order is None else ranks(order, shape)


def inside(at: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Refuses a place outside the image."""
    try:
        row, column = (whole("at", side) for side in at)
    except (TypeError, ValueError):
        row = column = -1
    require(
        0 <= row < height and 0 <= column < width,
        f"at is {shown(at)}: give (row, column) within {height} x {width}.",
    )
    return row, column


# -- the copy -------------------------------------------------------------------------------------


def copied(model: Callable) -> Callable:
    """Copies a module, opened if it is wrapped; a function stays what it is.

    What a forward leaves behind in a module, such as the weight that an old `weight_norm` has computed, belongs
    to a graph and cannot be copied: the copy gets its numbers.
    """
    model = unwrapped(model)
    if not isinstance(model, nn.Module):
        return model
    held = (value for module in model.modules() for value in _held(vars(module)))
    numbers = {id(value): value.detach().clone() for value in held if isinstance(value, Tensor) and not value.is_leaf}
    try:
        return copy.deepcopy(model, numbers)
    except Exception as error:  # a stranger's module holds whatever it likes
        raise ValueError(
            f"{name_of(model)} cannot be copied, and a copy is what is asked ({brief(error)}): "
            "take out of the module what cannot be copied."
        ) from error


def _held(value: Any) -> Iterator[Any]:
    """What a list, a tuple or a dict holds, however deep."""
    if isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _held(part)
    else:
        yield value


def prepare(
    model: Callable, shape: tuple[int, int, int], levels: int | None = None, labels: Sequence[int] | None = None
) -> Subject:
    """Copies the model, and finds out which images it takes."""
    require(callable(model), f"model is a {type(model).__name__}: give a module or a function.", TypeError)
    net = copied(model)
    if isinstance(net, nn.Module):
        net = net.cpu()
        _unwrap_parts(net)
    net = model_or_layer(net, shape)
    levels, labels, refusals = known_levels(net, levels), known_labels(net, labels), []
    set_mode(net, training=False)
    # A forward with x.float() in it, or a function around a float32 module, insists on float32; an embedding on int64.
    for dtype in (torch.float64, torch.float32, torch.int64):
        if isinstance(net, nn.Module):
            net = net.float() if dtype == torch.float32 else net.double()
        images = partial(_random_images, shape, levels, dtype)
        x = images(1, torch.Generator())
        try:
            with torch.no_grad():
                output = _call(net, x, None if labels is None else labels[:1])  # a lazy layer is built here
        except CausalityError:
            raise
        except Exception as error:  # a stranger's module raises whatever it trips over
            refusals.append(error)
        else:
            _read(net, x, output)
            return Subject(net, shape, images, levels, labels)
    raise ValueError(_not_taken(net, shape, refusals[1])) from refusals[1]


def _unwrap_parts(module: nn.Module) -> None:
    for name, part in list(module._modules.items()):
        if part is not None:
            module.add_module(name, unwrapped(part))
            _unwrap_parts(unwrapped(part))


def _not_taken(net: Callable, shape: tuple[int, ...], error: Exception) -> str:
    last = shape[2] <= 4 < shape[0]
    hint = f"channels last? Give shape={(shape[2], *shape[:2])}" if last else "give its shape=(channels, height, width)"
    return f"{name_of(net)} does not take images {(1, *shape)} ({type(error).__name__}: {brief(error)}): {hint}."


def _random_images(
    shape: tuple[int, ...], levels: int, dtype: torch.dtype, count: int, generator: torch.Generator
) -> Tensor:
    return torch.randint(levels, (count, *shape), generator=generator).to(dtype)


def set_mode(net: Callable, training: bool) -> None:
    """Puts a module into evaluation or training mode, in both without dropout."""
    if isinstance(net, nn.Module):
        net.train(training)
        for module in net.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()


def labels_for(subject: Subject, count: int, turn: int = 0) -> Tensor | None:
    """Gives a label for each image, the classes in turn; another turn begins with another class."""
    if subject.labels is None:
        return None
    classes = len(subject.labels)
    return subject.labels[(torch.arange(count) + turn * (classes // 4 + 1)) % classes]


# -- the call -------------------------------------------------------------------------------------


def ask(net: Callable, x: Tensor, label: Tensor | None = None) -> Tensor:
    """Calls a fresh copy, so that no call leaves a trace. Chance inside falls the same way every time."""
    return _read(net, x, _call(copied(net), x, label))


def _call(net: Callable, x: Tensor, label: Tensor | None) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = x.clone()  # a network may work in place
        if isinstance(net, AutoregressiveModel):
            return net.conditional_parameters(x, label)
        return net(x) if label is None else net(x, label)


def _read(net: Callable, x: Tensor, output: Any) -> Tensor:
    """Refuses outputs of which nothing can be said; -inf, which forbids a level, becomes the lowest number."""
    kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
    require(
        getattr(kind, "is_floating_point", False),
        f"{name_of(net)} returned {kind}: give a forward that returns one tensor of real numbers and nothing else.",
    )
    fits = {4: (len(x), *x.shape[2:]), 5: x.shape}.get(output.dim())
    require(
        fits == (len(output), *output.shape[2:]),
        f"{name_of(net)} maps images {tuple(x.shape)} to {tuple(output.shape)}: the probes read "
        f"[N, features, H, W] or [N, levels, C, H, W].{_permutation(x, output)}",
    )
    require(
        output.dim() == 5 or output.shape[1] >= x.shape[1],
        f"{name_of(net)} maps images {tuple(x.shape)} to {tuple(output.shape)}: "
        f"{x.shape[1]} channels need as many features or more, or [N, levels, C, H, W].",
    )
    if (bad := output.isnan() | output.isposinf()).any():
        raise CausalityError(
            f"the output at {_first_place(bad)} is NaN or infinite: nothing can be said of "
            "the model before all its outputs are finite."
        )
    if (bad := output.isneginf().all(1)).any():
        raise CausalityError(f"the output at {_first_place(bad)} forbids every level: all its logits are -inf.")
    return output.clamp(min=torch.finfo(output.dtype).min)


def _first_place(bad: Tensor) -> str:
    *_, row, column = bad.nonzero()[0].tolist()
    return f"row {row}, column {column}"


def _permutation(x: Tensor, output: Tensor) -> str:
    """The likely reason for an output of another shape."""
    if output.dim() == 3 and output.shape[1] == x.shape[2] * x.shape[3]:
        return f" Pixels in one axis? Give output.mT.unflatten(2, {tuple(x.shape[2:])})."
    sizes = dict(zip("NCHW", x.shape, strict=True))
    for layout in LAYOUTS:
        if len(layout) == output.dim() and all(
            sizes.get(axis, side) == side for axis, side in zip(layout, output.shape, strict=True)
        ):
            axes = tuple(layout.index(axis) for axis in ("NLHW", "NLCHW")[len(layout) - 4])
            return f" {'Channels last' if layout[-1] in 'LC' else 'Axes in another order'}? Give output.permute{axes}."
    return ""


# -- parameters and masks --------------------------------------------------------------------------


def parameters_of(net: Callable) -> Iterator[tuple[str, nn.Parameter]]:
    """Gives the named parameters; a function has none."""
    return _named(net).named_parameters() if isinstance(net, nn.Module) else iter(())


def masked_weights(net: Callable) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Finds weights that have a mask: zeros and ones that their module, or its owner, holds."""
    for prefix, module in _named(net).named_modules() if isinstance(net, nn.Module) else ():
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


def zeros_of(net: Callable) -> list[str]:
    """Names parameters and buffers that are all zero and no masks, which a gate that begins at zero is."""
    if not isinstance(net, nn.Module):
        return []
    net = _named(net)
    return [
        name
        for name, value in itertools.chain(net.named_parameters(), net.named_buffers())
        if value.is_floating_point() and value.numel() and not value.any() and not _may_mask(net, name, value)
    ]


@torch.no_grad()
def without_zeros(net: nn.Module) -> nn.Module:
    """Copies the net with random numbers for what `zeros_of` names; masks stay masks."""
    net = copied(net)
    generator = torch.Generator().manual_seed(0)
    named, filled = _named(net), zeros_of(net)
    tensors = dict(itertools.chain(named.named_parameters(), named.named_buffers()))
    for name in filled:
        value = tensors[name]
        value += torch.rand(value.shape, generator=generator, dtype=value.dtype) + 0.5
    for name, weight, mask in masked_weights(net):
        if name in filled:
            weight *= mask
    return net


def _may_mask(net: nn.Module, name: str, value: Tensor) -> bool:
    """Whether a tensor of zeros that nobody trains is called a mask, or could be that of a weight beside it."""
    if isinstance(value, nn.Parameter) and value.requires_grad:
        return False
    owner = net.get_submodule(name.rpartition(".")[0])
    beside = (weight for weight in owner.parameters() if weight is not value)
    return "mask" in name or (value.dim() > 1 and any(_fits(value.shape, weight.shape) for weight in beside))
