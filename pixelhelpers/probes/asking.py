"""How a model is asked: `prepare` copies it, `ask` calls the copy, `set_mode`, and parameters and masks are found.

Every probe works on a copy on the CPU, where the answer is yes or no in double precision; the model that was
given is never changed.
"""

import copy
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import CausalityError, require
from ..models.base import AutoregressiveModel
from ..models.own import facts_of, ranks
from ..stepping import raster_order

FORBIDDEN = -100.0  # stands for -inf, the logit of a level that cannot be: as good as none, and a number
CHUNK = 64  # images asked about at once: bounds the memory, [64, 256, 28, 28] in double is 0.1 GB


def known_levels(model: Callable, levels: int) -> int:
    """Gives the number of levels: the model's own if it has one."""
    levels = model.levels if isinstance(model, AutoregressiveModel) else levels
    require(levels >= 2, f"levels is {levels}: give at least 2.")
    return levels


def rank_of(model: Callable, shape: tuple[int, ...], order: Tensor | None) -> Tensor:
    """Gives the rank of every value: as asked for, else the model's own, else raster order."""
    require(len(shape) == 3 and min(shape) >= 1, f"shape is {shape}: give (channels, height, width).")
    if order is None:
        order = model.order if isinstance(model, AutoregressiveModel) else facts_of(model).get("order")
    return raster_order(shape) if order is None else ranks(order, shape)


def prepare(model: Callable, shape: tuple[int, ...], levels: int) -> tuple[Callable, Callable]:
    """Copies the model; returns the copy and `images(count, generator)`, its random images."""
    require(callable(model), f"model is a {type(model).__name__}: give a module or a function.", TypeError)
    net = copy.deepcopy(model).cpu().double() if isinstance(model, nn.Module) else model
    set_mode(net, training=False)
    refusals = []
    # A forward with x.float() in it, or a function around a float32 module, wants float32; an embedding, integers.
    for precision, kind in (("double", torch.float64), ("float", torch.float32), ("double", torch.int64)):
        net = getattr(net, precision)() if isinstance(model, nn.Module) else model
        images = partial(_random_images, shape, levels, kind)
        try:
            ask(net, images(1, torch.Generator()))
        except RuntimeError as error:
            refusals.append(error)
        else:
            return net, images
    raise refusals[1]


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


def ask(net: Callable, x: Tensor) -> Tensor:
    """Calls the copy. Chance inside (a functional dropout) falls the same way at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if isinstance(net, AutoregressiveModel):
            output = net.conditional_parameters(x, None if net.classes is None else 0)
        else:
            output = net(x)
    name = type(net).__name__ if isinstance(net, nn.Module) else getattr(net, "__name__", "model")
    kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
    require(getattr(kind, "is_floating_point", False), f"{name} returned {kind}: the probes read real numbers.")
    fits = {4: (len(x), *x.shape[2:]), 5: x.shape}.get(output.dim())
    require(
        fits == (len(output), *output.shape[2:]),
        f"{name} maps images {tuple(x.shape)} to {tuple(output.shape)}: the probes read "
        "[N, features, H, W] or [N, levels, C, H, W].",
    )
    output = output.masked_fill(output == -torch.inf, FORBIDDEN)
    if not output.isfinite().all():
        *_, row, column = (~output.isfinite()).nonzero()[0].tolist()
        raise CausalityError(
            f"the output at row {row}, column {column} is NaN or infinite: nothing can be said of "
            "the model before all its outputs are finite."
        )
    return output


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


@torch.no_grad()
def without_zeros(net: nn.Module) -> nn.Module:
    """Copies the net with random numbers for parameters that are all zero; masks stay masks."""
    net = copy.deepcopy(net)
    generator = torch.Generator().manual_seed(0)
    filled = []
    for name, value in parameters_of(net):
        if not value.any() and value.requires_grad:
            value += torch.rand(value.shape, generator=generator, dtype=value.dtype) + 0.5
            filled.append(name)
    for name, weight, mask in masked_weights(net):
        if name in filled:
            weight *= mask
    return net


def inside(at: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Refuses a place outside the image."""
    row, column = at
    require(
        0 <= row < height and 0 <= column < width, f"at is {tuple(at)}: give (row, column) within {height} x {width}."
    )
    return row, column
