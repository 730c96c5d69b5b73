"""A module of one's own: `OwnModule` makes it answer like a model; `as_model`, `model_of_images`, `model_for` and
`model_or_layer` take both; `unwrapped` opens them; `facts_of`, `ranks` and `sides` say what is known."""

import inspect
import itertools
import numbers
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..arguments import integers
from ..errors import brief, require
from .base import AutoregressiveModel, evaluation_mode
from .heads import SoftmaxHead

Order = Tensor | Callable[[tuple[int, int, int]], Tensor]
NOTE = "_noted_by_pixelhelpers"  # the attribute where a module carries what `as_model` was told and `fit` found out
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
LIKELY_CHANNELS = (1, 3)  # tried in turn when nobody says
GIVE_IMAGES = "integers [N, C, H, W], N > 0"


class OwnModule(AutoregressiveModel, loadable=False):
    """A module of one's own, made to answer like a model of the package; `as_model` builds it.

    Arguments:
        module: maps images `[N, C, H, W]`, and with classes a label `[N]`, int64, to logits `[N, levels, H, W]`, for
            colour `[N, levels, C, H, W]`; grey ones may be `[N, levels, 1, H, W]`, too.
        levels: number of levels of a value.
        image_channels: number of image channels C.
        image_size: side in pixels, or (height, width), that `sample` takes when it is not told another.
        classes: number of classes to condition on, or None.
        order: ranks as for `as_model`, or None for raster order.
        integers: whether the module wants images as int64, as an `nn.Embedding` does; else they are floats in
            `[0, levels)`, of the module's own precision.
    """

    head = SoftmaxHead  # the class: reading logits needs no layers

    def __init__(
        self,
        module: nn.Module,
        levels: int,
        image_channels: int,
        image_size: int | tuple[int, int],
        classes: int | None = None,
        order: Order | None = None,
        integers: bool = False,
    ):
        height, width = sides(image_size)
        super().__init__(levels=levels, image_channels=image_channels, image_size=min(height, width), classes=classes)
        self.image_size = height if height == width else (height, width)
        self.settings = {"module": type(module).__name__, "image_size": self.image_size}
        self.module, self.own_order, self.integers = module, order, integers

    def forward(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        label = self.labels(label, len(x))
        return _logits(self.module, _input(self.module, x, self.integers), label, self.levels)

    def labels(self, label: int | Tensor | None, count: int) -> Tensor | None:
        require(
            label is None or self.classes is not None,
            f"label was given, but nobody said how many classes {type(self.module).__name__} knows: "
            "say as_model(module, classes=…), or leave the label out.",
        )
        return super().labels(label, count)

    def order(self, shape: tuple[int, ...]) -> Tensor:
        shape = (self.image_channels, *shape[-2:])
        return super().order(shape) if self.own_order is None else ranks(self.own_order, shape)

    def note(self, size: tuple[int, int]) -> None:
        """Leaves what is known of the module with the module itself, so that whoever gets it next knows it, too.

        Arguments:
            size: (height, width) of the images that it learns from, which it draws unless it said another.
        """
        if "image_size" not in facts_of(self.module):
            self.image_size = size[0] if size[0] == size[1] else size
        known = (self.levels, self.image_channels, self.image_size, self.classes, self.own_order)
        vars(self.module)[NOTE] = {name: value for name, value in zip(KINDS, known, strict=True) if value is not None}

    def _weights_to_save(self) -> dict[str, Tensor]:
        return self.module.state_dict()  # by its own names: rebuilding the module is its owner's


def ranks(order: Order, shape: tuple[int, int, int]) -> Tensor:
    """Gives the rank of every value in somebody's own drawing order.

    Arguments:
        order: ranks `[C, H, W]`, or `[H, W]` of pixels, whose channels then follow each other; or a function from
            (C, H, W) to these.
        shape: (C, H, W).

    Returns:
        int64 `[C, H, W]`.

    Raises:
        ValueError: for other types and shapes.

    Example:
        >>> ranks(torch.tensor([[0, 2], [1, 3]]), (1, 2, 2))
        tensor([[[0, 2],
                 [1, 3]]])
    """
    rank = integers("order", order(shape) if callable(order) else order, "whole numbers, a rank per value").cpu()
    if rank.shape == shape[1:]:
        rank = rank * shape[0] + torch.arange(shape[0]).view(-1, 1, 1)
    require(
        rank.shape == shape,
        f"order has shape {tuple(rank.shape)}: give one rank per value, {shape}, or per pixel, {shape[1:]}, or a "
        "function from (C, H, W) to these.",
    )
    return rank.long()


def unwrapped(module: nn.Module) -> nn.Module:
    """Gives the module inside what `torch.compile`, `DataParallel` and the like have wrapped, however often.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> unwrapped(nn.DataParallel(nn.DataParallel(layer))) is layer
        True
    """
    if isinstance(module, WRAPPERS):
        return unwrapped(module.module)
    inside = getattr(module, "_orig_mod", None)  # of `torch.compile`
    return module if inside is None else unwrapped(inside)


def sides(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Gives (height, width) of what may be one side of a square.

    Example:
        >>> sides(28), sides((8, 10))
        ((28, 28), (8, 10))
    """
    return tuple(image_size) if isinstance(image_size, tuple | list | torch.Size) else (image_size, image_size)


def as_model(
    module: nn.Module,
    *,
    levels: int | None = None,
    image_channels: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    classes: int | None = None,
    order: Order | None = None,
) -> AutoregressiveModel:
    """Makes a module of one's own answer like a model of the package: `predict`, `log_prob`, `order` and the rest.

    `fit`, `evaluate`, `sample` and the probes take a bare module, too, and do this themselves. What a module cannot be
    asked, it may say by attributes of these names (`order` may be a method), or it is told here. What is told counts
    more. It is noted on the module: whoever gets the module later, bare or not, knows it. `fit` notes, too, what it
    was given. What nobody says is found out by showing the module an image.

    Arguments:
        module: maps images `[N, C, H, W]`, floats in `[0, levels)`, to logits `[N, levels, H, W]`, for colour
            `[N, levels, C, H, W]`; with classes also takes a label, int64 `[N]`, and learns from the labels of a set
            where the argument is needed or is called `label`. One that takes no floats gets int64. A logit of -inf
            forbids its level. A model of the package is given back as it is.
        levels: number of levels of a value, at least 2; default: as many as there are logits.
        image_channels: number of image channels; default: 1, or 3 where the module takes no grey image.
        image_size: side in pixels, or (height, width), that `sample` draws when it is not told another; default: 28.
        classes: number of classes; default: none, and `forward` gets images alone.
        order: int rank `[C, H, W]` of each value in the drawing order, or `[H, W]` of each pixel, or a function from
            (C, H, W) to these; equal ranks are drawn together. Default: raster order, then channel.

    Raises:
        TypeError: when it is no module at all.
        ValueError: when what is said and what the module gives do not fit.

    Example:
        >>> from pixelhelpers.layers import MaskedConv2d
        >>> codes = nn.Sequential(MaskedConv2d("A", 1, 16, 3), nn.ReLU(), nn.Conv2d(16, 512, 1))
        >>> model = as_model(codes, image_size=8)
        >>> model.levels, model.predict(torch.zeros(2, 1, 8, 8, dtype=torch.long)).pmf().shape
        (512, torch.Size([2, 1, 8, 8, 512]))
    """
    given = (levels, image_channels, image_size, classes, order)
    told = {name: value for name, value in zip(KINDS, given, strict=True) if value is not None}
    module = unwrapped(module)
    require(isinstance(module, nn.Module), f"model is a {type(module).__name__}: give a torch.nn.Module.", TypeError)
    for name, value in told.items():
        require(KINDS[name](value), f"{name} is {value!r}: {EXPECTED[name]}.")
    if order is not None and not callable(order):
        integers("order", order, "whole numbers, a rank per value")
    if isinstance(module, AutoregressiveModel):
        for name in ("levels", "image_channels", "classes"):
            built = getattr(module, name)
            require(
                told.get(name, built) == built,
                f"{name} is {told.get(name)}, but the model was built with {name}={built}.",
            )
        return module
    facts = facts_of(module) | told
    model = _own_model(module, facts, sides(facts.get("image_size", 28)))
    if "image_size" in facts:
        model.order((model.image_channels, *sides(facts["image_size"])))  # refuses ranks of another shape
    vars(module)[NOTE] = vars(module).get(NOTE, {}) | told
    return model


def model_of_images(
    module: nn.Module, shape: tuple[int | None, int, int], count: int = 1, classes: int | None = None
) -> AutoregressiveModel:
    """Takes a model as it is, and any other module as one of images of this shape.

    Arguments:
        module: as for `as_model`.
        shape: (C, H, W) of the images; C None: unknown.
        count: number of images: with as many a module is asked that does not take one.
        classes: how many there are, if the module wants a label and does not say how many it knows.
    """
    module = unwrapped(module)
    if isinstance(module, AutoregressiveModel) or not isinstance(module, nn.Module):
        return as_model(module)
    channels, *size = shape
    facts = ({} if channels is None else {"image_channels": channels}) | facts_of(module)
    said = getattr(module, "image_size", None)
    facts["image_size"] = said if _is_size(said) else tuple(size)  # of these images, not of those that were noted
    if classes and "classes" not in facts and takes_label(module):
        facts["classes"] = classes
    return _own_model(module, facts, tuple(size), count)


def model_for(
    model: nn.Module, images: Tensor, name: str, batch_size: int = 1, classes: int | None = None
) -> AutoregressiveModel:
    """Takes a model or a module as a model, and refuses images that it cannot score, by the name that is given.

    Arguments:
        model: as for `evaluate`.
        images: what is to be scored.
        name: what to call them.
        batch_size: how many at once.
        classes: how many there are, for a module that wants a label and does not say how many it knows.
    """
    require(
        isinstance(images, Tensor) and images.dim() == 4 and len(images) != 0 and not images.is_floating_point(),
        f"{name} has type {getattr(images, 'dtype', type(images).__name__)} and shape "
        f"{tuple(getattr(images, 'shape', ()))}: give {GIVE_IMAGES}."
        + (f" Grey? {name}[:, None]." if getattr(images, "ndim", 0) == 3 else ""),
    )
    module = unwrapped(model)
    require(
        facts_of(module).get("image_channels") == images.shape[1] or images.shape[1] <= 4 or images.shape[3] > 4,
        f"{name} has shape {tuple(images.shape)}: channels last? give images.permute(0, 3, 1, 2), [N, C, H, W].",
    )
    model = model_of_images(module, tuple(images.shape[1:]), min(batch_size, len(images)), classes)
    if int(images.min()) < 0 or int(images.max()) >= model.levels:
        raise ValueError(
            f"{name} has values from {int(images.min())} to {int(images.max())}, but the model knows "
            f"{model.levels} levels: give integers from 0 to {model.levels - 1}."
        )
    require(
        images.shape[1] == model.image_channels,
        f"{name} has {images.shape[1]} channels, shape {tuple(images.shape)}, but the model was built for "
        f"{model.image_channels}: give images [N, {model.image_channels}, H, W], or build it with "
        f"image_channels={images.shape[1]}.",
    )
    model.order(tuple(images.shape[1:]))  # refuses a size that the model cannot draw
    return model


def model_or_layer(module: Callable, shape: tuple[int, int, int]) -> Callable:
    """Takes as a model what says of itself that it is one: the probes also ask layers and functions, as they are.

    Arguments:
        module: whatever a probe was given.
        shape: (C, H, W) of the images that it will be asked about.

    Example:
        >>> layer = nn.Conv2d(1, 4, 3, padding=1)
        >>> model_or_layer(layer, (1, 8, 8)) is layer
        True
        >>> layer.levels = 4
        >>> type(model_or_layer(layer, (1, 8, 8))).__name__
        'OwnModule'
    """
    module = unwrapped(module)
    if isinstance(module, nn.Module) and not isinstance(module, AutoregressiveModel) and len(shape) == 3:
        is_model = NOTE in vars(module) or _wants_label(module)
        try:
            if is_model or facts_of(module).keys() & {"levels", "classes"}:
                module = model_of_images(module, shape)
        except ValueError:  # of a layer that happens to have such an attribute, as heads have
            if is_model:
                raise
    channels = getattr(module, "image_channels", None) if isinstance(module, AutoregressiveModel) else None
    require(
        len(shape) != 3 or channels in (None, shape[0]),
        f"shape is {shape}, but the model has {channels} channels: give shape=({channels}, height, width).",
    )
    return module


# -- what is known of a module ------------------------------------------------------------------------


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1


def _is_size(value: Any) -> bool:
    pair = isinstance(value, tuple | list) and len(value) == 2
    return all(map(_is_count, value)) if pair else _is_count(value)


def _is_order(value: Any) -> bool:
    return hasattr(value, "shape") or (callable(value) and not isinstance(value, nn.Module))


# Which attributes say something, and what they must be: a list of class names called `classes` says something else.
KINDS = {
    "levels": _is_count,
    "image_channels": _is_count,
    "image_size": _is_size,
    "classes": _is_count,
    "order": _is_order,
}
EXPECTED = {name: "give a whole number, at least 1" for name in KINDS} | {
    "image_size": "give a side in pixels, or (height, width)",
    "order": "give a tensor of ranks, or a function from (C, H, W) to one",
}


def facts_of(module: nn.Module) -> dict[str, Any]:
    """Gives what a module says of itself, and what was noted on it, by the names of `as_model`."""
    said = {name: getattr(module, name, None) for name in KINDS}
    return {name: value for name, value in said.items() if KINDS[name](value)} | getattr(module, "__dict__", {}).get(
        NOTE, {}
    )


def _wants_label(module: nn.Module) -> bool:
    """Whether a module's `forward` cannot do without a second argument."""
    return sum(one.default is one.empty for one in _parameters(module)) == 2


def takes_label(module: nn.Module) -> bool:
    """Whether a module's `forward` takes a label: a second argument that it needs, or one of that name.

    Example:
        >>> class Net(nn.Module):
        ...     def forward(self, x, label=None): ...
        >>> takes_label(Net()), takes_label(nn.ReLU())
        (True, False)
    """
    return _wants_label(module) or any(one.name in ("label", "labels") for one in _parameters(module)[1:2])


def _parameters(module: nn.Module) -> list[inspect.Parameter]:
    """What a module's `forward` takes by place."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # a scripted module shows none
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one for one in parameters if one.kind in positional]


def _own_model(module: nn.Module, facts: dict[str, Any], size: tuple[int, int], count: int = 1) -> OwnModule:
    """Completes what is known of a module by showing it images of this size."""
    name = type(module).__name__
    require(
        "classes" in facts or not _wants_label(module),
        f"{name}.forward takes a label, too, and nobody says how many classes there are: say as_model(module, "
        "classes=…), or give the module an attribute `classes`.",
    )
    likely = [facts["image_channels"]] if "image_channels" in facts else LIKELY_CHANNELS
    tries = itertools.product(likely, dict.fromkeys((1, count)), (False, True))
    refusals = []
    for channels, images, as_integers in tries:
        try:
            logits = _asked(module, (images, channels, *size), facts, as_integers)
            break
        except Exception as error:  # a stranger's module raises whatever it trips over
            refusals.append(error)
    else:
        # What it says of its logits, of all that was tried, is nearer to the point than that it takes no such images.
        label = "" if "classes" in facts or not takes_label(module) else ", or classes=… if it needs a label"
        of_class = f" of class {facts['classes'] - 1}" if "classes" in facts else ""
        raise next((error for error in refusals if isinstance(error, ValueError)), None) or ValueError(
            f"{name} does not take images {(1, facts.get('image_channels', 1), *size)}{of_class} "
            f"({type(refusals[0]).__name__}: {brief(refusals[0])}): if it takes others, say as_model(module, "
            f"image_channels=…, image_size=…{label})."
        ) from refusals[0]
    _warn_of_probabilities(logits, name)
    facts = {"image_size": size} | facts | {"levels": logits.shape[1], "image_channels": channels}
    return OwnModule(module, **facts, integers=as_integers)


def _asked(module: nn.Module, shape: tuple[int, ...], facts: dict[str, Any], as_integers: bool) -> Tensor:
    """Shows a module images of zeros; neither its mode nor anybody's random numbers change."""
    like = next(itertools.chain(module.parameters(), module.buffers()), torch.zeros(()))
    x = _input(module, torch.zeros(shape, device=like.device), as_integers)
    # The last class: a table that is too small for it is found out.
    label = torch.full(shape[:1], facts["classes"] - 1, device=like.device) if "classes" in facts else None
    with evaluation_mode(module), torch.no_grad(), torch.random.fork_rng(devices=[]):
        return _logits(module, x, label, facts.get("levels"))


def _input(module: nn.Module, x: Tensor, as_integers: bool) -> Tensor:
    """Images as the module takes them: floats of its own precision, or int64."""
    if as_integers:
        return x.long()
    weight = next((weight for weight in module.parameters() if weight.is_floating_point()), None)
    if weight is not None:
        return x.to(weight.dtype)
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def _logits(module: nn.Module, x: Tensor, label: Tensor | None, levels: int | None = None) -> Tensor:
    """Asks a module, and says what is wrong with the shape of its answer."""
    logits, name, channels = module(x) if label is None else module(x, label), type(module).__name__, x.shape[1]
    require(isinstance(logits, Tensor), f"{name} returns a {type(logits).__name__}: give the logits alone, a tensor.")
    require(logits.is_floating_point(), f"{name} returns {logits.dtype}: give logits, real numbers.")
    if channels == 1 and logits.dim() == 5 and logits.shape[2] == 1:
        logits = logits.squeeze(2)
    require(
        logits.dim() < 2 or logits.shape[1] > 1,
        f"{name} gives one number per value, {tuple(logits.shape)}: give a logit for each level, two or more.",
    )
    given, wanted = tuple(logits.shape), x.shape[2:] if channels == 1 else x.shape[1:]
    if len(given) == 2 + len(wanted) and given == (len(x), levels or given[1], *wanted):
        return logits
    expected = ", ".join(map(str, (len(x), levels or "levels", *wanted)))
    raise ValueError(
        f"{name} maps images {tuple(x.shape)} to {given}: logits must have shape ({expected})."
        f"{_hint(given, tuple(x.shape), levels)}"
    )


def _hint(given: tuple[int, ...], images: tuple[int, ...], levels: int | None) -> str:
    """The likely reason for logits of another shape."""
    count, channels, *size = images
    wanted = size if channels == 1 else [channels, *size]
    if given[:1] != (count,):
        return " A module that holds something for each image is asked with all at once: see `sample`, method."
    for axes in itertools.permutations(range(1, len(given))):
        moved = [given[axis] for axis in axes]
        if moved[1:] == wanted and moved[0] == (levels or moved[0]):
            return f" Levels on another axis? logits.permute{(0, *axes)}"
    if len(given) == 4 and channels > 1 and list(given[2:]) == size and given[1] % channels == 0:
        return f" All in one axis? logits.unflatten(1, ({channels}, {given[1] // channels})).transpose(1, 2)"
    return ""


def _warn_of_probabilities(logits: Tensor, name: str) -> None:
    total = logits.sum(1)
    if ((logits >= 0) & (logits <= 1)).all() and torch.allclose(total, torch.ones_like(total), atol=1e-3):
        warnings.warn(
            f"{name} returns probabilities: all lie in [0, 1] and sum to 1. Logits are expected: leave the softmax "
            "out, or the model can hardly learn.",
            stacklevel=2,
        )
