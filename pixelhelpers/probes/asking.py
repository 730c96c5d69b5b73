"""How a model is asked: `prepare` copies it, `ask` calls the copy, `set_mode`, and parameters and masks are found.

Every probe works on a copy on the CPU, where the answer is yes or no in double precision; the model that was
given is never changed.
"""

import copy
import inspect
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import CausalityError, require
from ..models.base import AutoregressiveModel
from ..models.own import unwrapped
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
    return type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", "model")


# -- what a model says of itself ------------------------------------------------------------------


def declared(model: Callable, name: str) -> Any:
    """Gives what a model says of itself: its `order`, or a whole number as its `levels`; else None."""
    value = getattr(unwrapped(model), name, None)
    if name == "order":
        return value if callable(value) or hasattr(value, "shape") else None
    return index_of(value)


def _shown(value: Any) -> str:
    """What was given, in one short line."""
    line = " ".join(str(value).split())
    return line if len(line) < 60 else f"a {type(value).__name__} that begins with {line[:40]}"


def index_of(value: Any) -> int | None:
    """Gives a whole number of any library as an int, None for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        return None


def known_levels(model: Callable, levels: int | None) -> int:
    """Gives the number of levels: as asked for, else the model's own, else 256."""
    own = declared(model, "levels")
    if levels is None:
        levels = 256 if own is None else own
    number = index_of(levels)
    require(number is not None and number >= 2, f"levels is {_shown(levels)}: give a whole number, at least 2.")
    require(own in (None, number), f"levels is {levels}, but the model was built with levels={own}.")
    return number


def image_shape(model: Callable, shape: Sequence[int]) -> tuple[int, int, int]:
    """Gives (channels, height, width) of what may be (height, width)."""
    asked = f"shape is {_shown(shape)}: give (height, width) or (channels, height, width), whole numbers of at least 1"
    require(isinstance(shape, Sequence | Tensor) or hasattr(shape, "shape"), f"{asked}.")
    require(len(getattr(shape, "shape", "1")) == 1, f"{asked}.")
    sides = [index_of(side) for side in shape]
    require(len(sides) in (2, 3) and all(side is not None and side >= 1 for side in sides), f"{asked}.")
    channels, height, width = sides if len(sides) == 3 else (declared(model, "image_channels") or 1, *sides)
    values = channels * height * width
    require(values <= MOST_VALUES, f"shape is {_shown(shape)}, {values:,} values: give at most {MOST_VALUES:,}.")
    return channels, height, width


def own_size(model: Callable) -> tuple[int, int] | None:
    """Gives the (height, width) that a model declares as its `image_size`: a side, or both."""
    size = getattr(model, "image_size", None)
    sides = [index_of(side) for side in (size if isinstance(size, tuple | list) else (size, size))]
    return tuple(sides) if len(sides) == 2 and all(side is not None and side >= 1 for side in sides) else None


def known_order(model: Callable, order: Any) -> Tensor | Callable | None:
    """Gives the order, ranks or a function to them: as asked for, else the model's own, else None."""
    order = declared(model, "order") if order is None else order
    if order is None or callable(order):
        return order
    try:
        return torch.as_tensor(order).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"order is a {type(order).__name__}: give one rank per value, [C, H, W].") from error


def rank_of(model: Callable, shape: tuple[int, int, int], order: Any) -> Tensor:
    """Gives the rank of every value: as asked for, else the model's own, else raster order."""
    order = known_order(model, order)
    rank = raster_order(shape) if order is None else order
    rank = known_order(model, order(shape)) if callable(order) else rank
    if rank.shape == shape[1:]:  # of pixels: their channels follow each other
        rank = rank * shape[0] + torch.arange(shape[0]).view(-1, 1, 1)
    require(tuple(rank.shape) == shape, f"order has shape {tuple(rank.shape)}: give one rank per value, {shape}.")
    require(bool((rank == rank.long()).all()), "order holds fractions: give integers, the ranks.")
    return rank.long()


def inside(at: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Refuses a place outside the image."""
    place = [index_of(side) for side in at] if isinstance(at, Sequence | Tensor) or hasattr(at, "shape") else []
    require(
        len(place) == 2 and None not in place and 0 <= place[0] < height and 0 <= place[1] < width,
        f"at is {_shown(at)}: give (row, column) within {height} x {width}.",
    )
    return tuple(place)


def whole_images(name: str, images: Any) -> Tensor:
    """Gives images `[N, C, H, W]`, in a tensor or an array of any integers, as a tensor that can be computed with."""
    try:
        tensor = torch.as_tensor(images)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} are a {type(images).__name__}: give integers [N, C, H, W].") from error
    shape = tuple(tensor.shape)
    last = len(shape) == 4 and shape[3] <= 4 < shape[1]
    require(
        len(shape) == 4
        and min(shape[1:]) >= 1
        and not last
        and not (tensor.is_floating_point() or tensor.is_complex()),
        f"{name} have type {tensor.dtype} and shape {shape}: give integers [N, C, H, W]."
        f"{' Channels last? permute(0, 3, 1, 2).' if last else ''}",
    )
    return tensor if tensor.dtype == torch.uint8 else tensor.long()  # uint16 lacks most operations


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
            f"{name_of(model)} cannot be copied, and a copy is what is asked: {_first_line(error)} "
            "Take out of the module what cannot be copied."
        ) from error


def _held(value: Any) -> Iterator[Any]:
    """What a list, a tuple or a dict holds, however deep."""
    if isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _held(part)
    else:
        yield value


def prepare(
    model: Callable, shape: tuple[int, ...], levels: int, labels: Sequence[int] | Tensor | None = None
) -> Subject:
    """Copies the model, and finds out which images and which labels it takes."""
    require(callable(model), f"model is a {type(model).__name__}: give a module or a function.", TypeError)
    net = copied(model)
    if isinstance(net, nn.Module):
        net = net.cpu()
        for name, part in list(net.named_modules()):
            if name and (inner := unwrapped(part)) is not part:
                net.set_submodule(name, inner)
    set_mode(net, training=False)
    asked, refusals = _asked_labels(net, labels), []
    # A forward with x.float() in it, or a function around a float32 module, insists on float32; an embedding on int64.
    for dtype in (torch.float64, torch.float32, torch.int64):
        if isinstance(net, nn.Module):
            net = net.float() if dtype == torch.float32 else net.double()
        images = partial(_random_images, shape, levels, dtype)
        x = images(1, torch.Generator())
        try:
            chosen = _known_labels(net, x) if asked is None else asked
            with torch.no_grad():
                output = _call(net, x, None if chosen is None else chosen[:1])  # a lazy layer is built here
        except CausalityError:
            raise
        except Exception as error:  # a stranger's module raises whatever it trips over
            refusals.append(error)
        else:
            _read(net, x, output)
            return Subject(net, shape, images, levels, chosen)
    raise ValueError(_not_taken(net, shape, refusals[1])) from refusals[1]


def _not_taken(net: Callable, shape: tuple[int, ...], error: Exception) -> str:
    last = shape[2] <= 4 < shape[0]
    hint = f"Channels last? Give shape={(shape[2], *shape[:2])}" if last else "Give its shape=(channels, height, width)"
    return f"{name_of(net)} does not take images {(1, *shape)}: {_first_line(error)} {hint}."


def _first_line(error: Exception) -> str:
    line = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {line}" + ("" if line.endswith((".", "!", "?")) else ".")


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


# -- labels ---------------------------------------------------------------------------------------


def _asked_labels(net: Callable, labels: Any) -> Tensor | None:
    """Takes the classes that were asked for, if the model knows them."""
    if labels is None:
        return None
    several = hasattr(labels, "__iter__") and getattr(labels, "shape", None) != ()
    given = [index_of(label) for label in (labels if several else [labels])]
    classes = _classes(net)
    known = f"{classes} classes" if classes else "classes from 0 on" if _second_parameter(net) else "no classes"
    fit = known != "no classes" and all(label is not None and 0 <= label < (classes or label + 1) for label in given)
    require(fit and bool(given), f"labels are {_shown(labels)}, but {name_of(net)} knows {known}.")
    return torch.tensor(given)


def _known_labels(net: Callable, x: Tensor) -> Tensor | None:
    """Gives all classes that a model declares, else those of 0 to 9 that it takes, if it cannot do without."""
    if classes := _classes(net):
        return torch.arange(classes)
    second = _second_parameter(net)
    if second is None or second.default is not second.empty:
        return None
    chosen = [0]
    while len(chosen) < 10 and _takes(net, x, len(chosen)):
        chosen.append(len(chosen))
    return torch.tensor(chosen)


def _classes(net: Callable) -> int | None:
    return declared(net, "classes") if isinstance(net, nn.Module) else None


def _second_parameter(net: Callable) -> inspect.Parameter | None:
    """Gives the second parameter of a learner's forward, which is a label."""
    if isinstance(net, AutoregressiveModel):
        return None  # it declares its classes
    try:
        parameters = inspect.signature(net.forward if isinstance(net, nn.Module) else net).parameters.values()
    except (TypeError, ValueError):  # written in another language
        return None
    placed = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return placed[1] if len(placed) > 1 else None


def _takes(net: Callable, x: Tensor, label: int) -> bool:
    try:
        return isinstance(ask(net, x, torch.tensor([label])), Tensor)
    except Exception:  # out of range, in whatever words
        return False


def labels_for(subject: Subject, count: int, turn: int = 0) -> Tensor | None:
    """Gives a label for each image, the classes in turn; another turn begins with another class."""
    if subject.labels is None:
        return None
    classes = len(subject.labels)
    return subject.labels[(torch.arange(count) + turn * (classes // 4 + 1)) % classes]


# -- the call -------------------------------------------------------------------------------------


def ask(net: Callable, x: Tensor, label: Tensor | None = None) -> Tensor:
    """Calls a fresh copy, so that no call leaves a trace. Chance inside falls the same way every time."""
    output = _call(copied(net), x, label)
    _read(net, x, output)
    return output


def _call(net: Callable, x: Tensor, label: Tensor | None) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = x.clone()  # a network may work in place
        if isinstance(net, AutoregressiveModel):
            return net.conditional_parameters(x, label)
        return net(x) if label is None else net(x, label)


def _read(net: Callable, x: Tensor, output: Any) -> None:
    """Refuses outputs of which nothing can be said."""
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
    if (bad := output.isneginf().all(1)).any():  # -inf forbids a level
        raise CausalityError(f"the output at {_first_place(bad)} forbids every level: all its logits are -inf.")


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
    return net.named_parameters() if isinstance(net, nn.Module) else iter(())


def masked_weights(net: Callable) -> Iterator[tuple[str, Tensor, Tensor]]:
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


def zeros_of(net: Callable) -> list[str]:
    """Names parameters and buffers that are all zero and no masks, which a gate that begins at zero is."""
    if not isinstance(net, nn.Module):
        return []
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
    tensors, filled = dict(itertools.chain(net.named_parameters(), net.named_buffers())), zeros_of(net)
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
