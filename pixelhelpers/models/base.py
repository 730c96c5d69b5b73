"""What all models share: scaling, labels, likelihood, drawing order, saving and loading."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import Categorical, DiscretizedLogisticMixture, categorical_log_prob
from ..layers import MaskedConv2d
from ..wavefront import Front, Fronts, Wavefront

FORMAT = 1
At = tuple[int | slice, int | slice, int | slice]
PRETRAINED = Path(__file__).parents[1] / "pretrained"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader finds the old content or the new one, never a part of it.

    Arguments:
        path: the file; its folder must exist.
        content: the new content.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "note.txt"
        >>> write_atomically(file, b"whole")
        >>> file.read_bytes()
        b'whole'
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class Stepper(NamedTuple):
    """A model's other way to run, front after front, for one sampling call; it holds the call's caches."""

    predict: Callable[[Front], Distribution]  # the conditionals of a front's values, batch [front.size]
    put: Callable[[Front, Tensor], None]  # tells the model what they became, [front.size]


class AutoregressiveModel(nn.Module):
    """An image model that factorises p(x) into one conditional per value, in a fixed order.

    Subclasses define `forward` (the parameters of every conditional) and `predict` (the conditionals).
    Those that can be sampled with caches also define `lag` (by how many columns a row must be ahead of the
    row below it) and `stepper(wave, label)`, which gives a `Stepper`. Images are integers in `[0, levels)`
    everywhere; `scale` maps them to [-1, 1].

    Arguments:
        settings: the keywords of the subclass's constructor, kept for saving; among them
            `levels`, `image_channels`, `image_size` (side in pixels) and `classes` (None: unconditional).
    """

    card: dict | None = None
    _known: ClassVar[dict[str, type["AutoregressiveModel"]]] = {}

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        # A learner's own class of the same name must not take the place of the package's.
        if cls.__module__.startswith(f"{__package__}.") and cls.__module__ != __name__:
            AutoregressiveModel._known[cls.__name__] = cls

    def __init__(self, *, levels: int, image_channels: int, image_size: int, classes: int | None, **settings: Any):
        super().__init__()
        for name, given, least in (
            ("levels", levels, 2),
            ("image_channels", image_channels, 1),
            ("image_size", image_size, 1),
        ):
            if int(given) != given:
                raise ValueError(f"{name} is {given}: give a whole number.")
            if given < least:
                raise ValueError(f"{name} is {given}: give at least {least}.")
        if not 0 <= settings.get("dropout", 0.0) < 1:
            raise ValueError(f"dropout is {settings['dropout']}: give a number from 0 to below 1.")
        if levels > 256:
            raise ValueError(f"levels is {levels}: give at most 256, what the bytes of an image can hold.")
        if classes is not None and classes < 1:
            raise ValueError(f"classes is {classes}: give at least 1, or None for a model without classes.")
        self.levels, self.image_channels, self.image_size, self.classes = (
            levels,
            image_channels,
            image_size,
            classes,
        )
        self.settings = {
            "levels": levels,
            "image_channels": image_channels,
            "image_size": image_size,
            "classes": classes,
            **settings,
        }

    # -- input ------------------------------------------------------------------------------------

    def scale(self, x: Tensor) -> Tensor:
        """Maps integer images to numbers in [-1, 1] of the model's own precision.

        Arguments:
            x: `[N, C, H, W]`, values in `[0, levels)`.

        Raises:
            ValueError: for another number of axes or channels.
        """
        if x.dim() != 4 or x.shape[1] != self.image_channels:
            raise ValueError(f"images have shape {tuple(x.shape)}: give [N, {self.image_channels}, height, width].")
        return self._scaled(x)

    def _scaled(self, levels: Tensor) -> Tensor:
        return levels.to(next(self.parameters()).dtype) * (2 / (self.levels - 1)) - 1

    def values(self, x: Tensor) -> Tensor:
        """Gives images as the int64 levels that are scored, whatever type they come in.

        Arguments:
            x: images of any type, values in `[0, levels)`.

        Raises:
            ValueError: for fractions: images that somebody has scaled already.
        """
        # A GPU is not asked: that would stop it.
        if x.is_floating_point() and x.device.type == "cpu" and (x != x.round()).any():
            raise ValueError(
                f"images hold fractions such as {float(x[x != x.round()][0]):g}: give levels, integers from 0 to "
                f"{self.levels - 1}; the model scales them itself."
            )
        return x.long()

    def labels(self, label: int | Tensor | None, count: int) -> Tensor | None:
        """Brings labels into the shape `[count]`, int64, on the model's device.

        Arguments:
            label: a class in `[0, classes)`, one per image, or None for a model without classes.
            count: number of images.

        Raises:
            ValueError: for a missing, superfluous, misshapen or out-of-range label.
        """
        if self.classes is None:
            if label is not None:
                raise ValueError("label was given, but the model was built without classes: leave it out.")
            return None
        if label is None:
            raise ValueError(
                f"label is missing: the model knows {self.classes} classes; give label=0 … {self.classes - 1} "
                "or one per image."
            )
        label = torch.as_tensor(label)
        if label.is_floating_point() or label.dim() > 1 or label.numel() not in (1, count):
            raise ValueError(
                f"label has type {label.dtype} and shape {tuple(label.shape)}: give one integer, or {count} of them."
            )
        # A GPU is not asked: that would stop it. There, the look-up of the class fails by itself.
        asked = label.device.type == "cpu" and not torch.compiler.is_compiling()
        if asked and not 0 <= int(label.min()) <= int(label.max()) < self.classes:
            raise ValueError(
                f"label runs from {int(label.min())} to {int(label.max())}: the model knows 0 … {self.classes - 1}."
            )
        return label.to(next(self.parameters()).device, torch.long).expand(count)

    # -- what a model can say ---------------------------------------------------------------------

    def predict(self, x: Tensor, label: int | Tensor | None = None, at: At | None = None):
        """Gives the conditional distribution of every value, given the earlier values of `x`.

        Arguments:
            x: images `[N, C, H, W]`, values in `[0, levels)`.
            label: class or classes `[N]`, for a model with classes.
            at: (row, column, channel) to get the conditionals of this one value, batch `[N]`; with slices in
                place of numbers, of these rows, columns and channels.

        Returns:
            a `torch.distributions.Distribution` of batch shape `[N, C, H, W]` with `.pmf()` `[..., levels]`.
        """
        raise NotImplementedError

    def conditional_parameters(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        """Gives the numbers that fix every conditional: what the probes watch.

        For most models that is `forward`. A model whose `forward` leaves some of the dependence between
        values to the distribution gives the distribution's parameters instead.

        Arguments:
            x: images `[N, C, H, W]`, values in `[0, levels)`.
            label: class or classes `[N]`, for a model with classes.

        Returns:
            `[N, parameters, H, W]` or `[N, parameters, C, H, W]`.
        """
        return self(x, label)

    def log_prob(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        """Gives the log-likelihood of whole images: the sum of all conditionals' log-probabilities.

        Arguments:
            x: images `[N, C, H, W]`, integers in `[0, levels)`.
            label: class or classes `[N]`, for a model with classes.

        Returns:
            nats `[N]`, at most 0.
        """
        return self.predict(x, label).log_prob(self.values(x)).flatten(1).sum(1)

    def order(self, shape: tuple[int, ...]) -> Tensor:
        """Gives the rank of every value in the drawing order; equal ranks are drawn together.

        Arguments:
            shape: (height, width), or (channels, height, width).

        Returns:
            int64 `[C, H, W]`: by default raster order, then channel.
        """
        height, width = shape[-2:]
        pixels = torch.arange(height * width).view(1, height, width)
        return pixels * self.image_channels + torch.arange(self.image_channels).view(-1, 1, 1)

    def fronts(self, count: int, shape: tuple[int, int, int], like: Tensor) -> Fronts:
        """Says which values a `stepper` computes together, in which order: by default lines of pixels.

        Arguments:
            count: number of images.
            shape: (C, H, W) of an image.
            like: a tensor of the precision and on the device of the features.
        """
        return Wavefront(count, shape, self.lag, like)

    # -- files ------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes `config.json` and `model.safetensors`, each at once or not at all.

        Arguments:
            folder: made if missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"class": type(self).__name__, "format": FORMAT, "settings": self.settings}
        write_atomically(folder / "config.json", (json.dumps(config, indent=2, default=int) + "\n").encode())
        write_atomically(folder / "model.safetensors", save(_unshared(self.state_dict())))

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike):
        """Builds the model that `save_pretrained` wrote, in evaluation mode, on the CPU.

        Arguments:
            folder: holds `config.json` and `model.safetensors`; a `card.json` beside them becomes `.card`.

        Raises:
            FileNotFoundError: when one of the two files is missing.
            ValueError: for an unknown class, format or setting, or weights of other names or shapes.
        """
        folder = Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} holds no {name}: give a folder that save_pretrained wrote.")
        model = cls._from_config(folder / "config.json")
        try:
            weights = load((folder / "model.safetensors").read_bytes())
        except SafetensorError as error:
            raise ValueError(
                f"{folder / 'model.safetensors'} is not a whole safetensors file ({error}): fetch it again."
            ) from None
        own = model.state_dict()
        for name in sorted(own.keys() | weights.keys()):
            if name not in weights:
                raise ValueError(f"{folder / 'model.safetensors'} lacks the weight {name!r} of {type(model).__name__}.")
            if name not in own:
                raise ValueError(f"{folder / 'model.safetensors'} holds {name!r}, unknown to {type(model).__name__}.")
            if own[name].shape != weights[name].shape:
                raise ValueError(
                    f"weight {name!r} has shape {tuple(weights[name].shape)}, but {folder / 'config.json'} "
                    f"describes {tuple(own[name].shape)}."
                )
        model.load_state_dict(weights)
        if (folder / "card.json").is_file():
            try:
                model.card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{folder / 'card.json'} is not a whole record ({error}): fetch it again.") from None
        return model.eval()

    @classmethod
    def _from_config(cls, path: Path) -> "AutoregressiveModel":
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            name, version, settings = config["class"], config["format"], config["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a model's configuration ({error!r}): fetch it again.") from None
        known = {name: kind for name, kind in cls._known.items() if issubclass(kind, cls)}
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"{path} names the class {name!r}; known here: {', '.join(sorted(known))}.")
        if version != FORMAT:
            raise ValueError(f"{path} has format {version!r}, this package reads {FORMAT}: update the package.")
        try:
            return known[name](**settings)
        except TypeError as error:
            raise ValueError(f"{path} has settings that {name} does not take: {error}.") from None


class SoftmaxModel(AutoregressiveModel):
    """A model whose `forward` gives one logit per level: `[N, levels, H, W]`, colour `[N, levels, C, H, W]`."""

    def softmax_head(self, hidden: int) -> nn.Sequential:
        """Makes the last layers: two 1x1 convolutions of type B, each after a ReLU, ending in a logit per level."""
        return nn.Sequential(
            nn.ReLU(),
            MaskedConv2d("B", hidden, hidden, 1, self.image_channels),
            nn.ReLU(),
            MaskedConv2d("B", hidden, self.levels * self.image_channels, 1, self.image_channels),
        )

    def by_level(self, logits: Tensor) -> Tensor:
        """Gives the head's output the shape of `forward`: for colour, levels and channels get an axis each."""
        if self.image_channels == 1:
            return logits
        return logits.unflatten(1, (self.image_channels, self.levels)).transpose(1, 2)

    def logits_per_value(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        """Gives the logits as `[N, C, H, W, levels]`, a view of what `forward` computed."""
        return self._levels_last(self(x, label))

    def _levels_last(self, logits: Tensor) -> Tensor:
        return (logits.unsqueeze(2) if self.image_channels == 1 else logits).movedim(1, -1)

    def predict(self, x: Tensor, label: int | Tensor | None = None, at: At | None = None):
        logits = self.logits_per_value(x, label)
        if at is not None:
            row, column, channel = at
            logits = logits[:, channel, row, column]
        return Categorical(logits=logits)

    def log_prob(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        return self.log_prob_of(self(x, label), x)

    def log_prob_of(self, logits: Tensor, x: Tensor) -> Tensor:
        """Scores images by logits of the shape that `forward` gives: nats `[N]`."""
        # Levels are last and, in the channels-last layout, contiguous: no copy of the largest tensor.
        logits = self._levels_last(logits).flatten(0, -2)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return categorical_log_prob(logits, self.values(x).flatten()).view(len(x), -1).sum(1)


class MixtureModel(AutoregressiveModel):
    """A model whose `forward` gives the parameters of a mixture of logistics per pixel.

    For grey images `[N, 3 * components, H, W]`: logits, means, log-scales. For colour
    `[N, 10 * components, H, W]`: one logit per component, then means, log-scales and coefficients of all
    channels. The channels of a pixel depend on each other through the mixture alone.

    References:
        Salimans, Karpathy, Chen, Kingma, "PixelCNN++", 2017, sections 2.1-2.2, https://arxiv.org/abs/1701.05517
    """

    def mixture_head(self, hidden: int, components: int) -> nn.Conv2d:
        """Makes the last layer, a 1x1 convolution; components begin side by side over the whole range of levels.

        Raises:
            ValueError: for less than one component, or another number of image channels than 1 and 3.
        """
        if components < 1:
            raise ValueError(f"components is {components}: give at least 1.")
        if self.image_channels not in (1, 3):
            raise ValueError(f"image_channels is {self.image_channels}: give 1 for grey images or 3 for colour.")
        head = nn.Conv2d(hidden, (3 if self.image_channels == 1 else 10) * components, 1)
        with torch.no_grad():  # each an eighth of the range wide
            _, means, log_scales = head.bias[: 7 * components if self.image_channels == 3 else None].split(
                [components, self.image_channels * components, self.image_channels * components]
            )
            means.copy_(torch.linspace(-1, 1, components).repeat(self.image_channels))
            log_scales.sub_(2)
        return head

    def parameters_of(self, features: Tensor) -> Tensor:
        """Applies the head in its own precision: in bfloat16 the means would move in steps of half a level."""
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.to(self.head.weight.dtype))

    def mixture(self, parameters: Tensor) -> DiscretizedLogisticMixture:
        """Reads the network's output: for grey images the mixtures of all values, for colour of all pixels.

        Arguments:
            parameters: `[..., features of the head]`.
        """
        if self.image_channels == 1:
            return DiscretizedLogisticMixture(*parameters.chunk(3, -1), levels=self.levels)
        logits, rest = parameters.tensor_split([self.settings["components"]], -1)
        means, log_scales, coefficients = rest.unflatten(-1, (3, 3, -1)).unbind(-3)
        return DiscretizedLogisticMixture(logits, means, log_scales, coefficients.tanh(), self.levels)

    def predict(self, x: Tensor, label: int | Tensor | None = None, at: At | None = None):
        rows, columns, channels = (slice(None),) * 3 if at is None else at
        mixture = self.mixture(self(x, label).movedim(1, -1)[:, rows, columns])
        seen = x.movedim(1, -1)[:, rows, columns]
        if self.image_channels == 1:
            parts = [t.unsqueeze(-2) for t in (mixture.logits, mixture.means, mixture.log_scales)]
        else:
            given = mixture.conditionals(seen)
            parts = [given.logits, given.means, given.log_scales]
        parts = [t.movedim(-2, 1)[:, channels] for t in parts]
        return DiscretizedLogisticMixture(*parts, levels=self.levels)

    def conditional_parameters(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        given = self.predict(x, label)  # in colour, the channels of a pixel meet only here
        return torch.cat((given.logits, given.means, given.log_scales), -1).movedim(-1, 1)

    def log_prob(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        values = self.values(x).movedim(1, -1)
        mixture = self.mixture(self(x, label).movedim(1, -1))
        return mixture.log_prob(values[..., 0] if self.image_channels == 1 else values).flatten(1).sum(1)

    def next_channel(self, parameters: Tensor, *earlier: Tensor) -> DiscretizedLogisticMixture:
        """Gives the conditional of a pixel's next channel, for a stepper.

        Arguments:
            parameters: of the pixel, `[N, features of the head]`.
            earlier: the levels of its channels so far, each `[N]`.
        """
        mixture = self.mixture(parameters)
        if self.image_channels == 1:
            return mixture
        seen = torch.stack([*earlier, *[parameters.new_zeros(len(parameters))] * (3 - len(earlier))], -1)
        given = mixture.conditionals(seen)
        parts = (t[:, len(earlier)] for t in (given.logits, given.means, given.log_scales))
        return DiscretizedLogisticMixture(*parts, levels=self.levels)


class OwnModule(SoftmaxModel):
    """A learner's own module, made to answer like a model of the package.

    Arguments:
        module: maps images `[N, C, H, W]`, given as floats in `[0, levels)`, to logits `[N, levels, H, W]`,
            for colour `[N, levels, C, H, W]`.
        levels: number of levels of a value.
        image_channels: number of image channels C.
        image_size: side in pixels that `sample` takes when it is not told another.
    """

    def __init__(self, module: nn.Module, levels: int, image_channels: int, image_size: int):
        super().__init__(levels=levels, image_channels=image_channels, image_size=image_size, classes=None)
        self.module = module

    def forward(self, x: Tensor, label: None = None) -> Tensor:
        self.labels(label, len(x))  # refuses one
        parameter = next(self.module.parameters(), None)
        logits = self.module(x.to(torch.get_default_dtype() if parameter is None else parameter.dtype))
        expected = (len(x), self.levels, *x.shape[2 if self.image_channels == 1 else 1 :])
        if tuple(logits.shape) != expected:
            raise ValueError(
                f"{type(self.module).__name__} maps images {tuple(x.shape)} to {tuple(logits.shape)}: "
                f"logits must have shape {expected} (images, levels, …)."
            )
        return logits

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes the module's own `state_dict` as `model.safetensors`; rebuilding the module is the learner's."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "model.safetensors", save(_unshared(self.module.state_dict())))


def _unshared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of weights, of which several may be the same tensor: safetensors refuses that."""
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Puts a module into evaluation mode, and afterwards each of its parts back into the mode it was in.

    Arguments:
        module: any module.

    Example:
        >>> module = nn.Sequential(nn.Dropout().eval(), nn.Dropout())
        >>> with evaluation_mode(module):
        ...     [part.training for part in module]
        [False, False]
        >>> [part.training for part in module]
        [False, True]
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def unwrapped(module: nn.Module) -> nn.Module:
    """Gives the module that `torch.compile` or `DataParallel` has wrapped: they hide what a model can do.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> unwrapped(nn.DataParallel(layer)) is layer
        True
    """
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    return getattr(module, "_orig_mod", module)


def as_model(
    module: nn.Module, *, levels: int | None = None, image_channels: int = 1, shape: tuple[int, int] = (28, 28)
) -> AutoregressiveModel:
    """Takes a model of the package as it is and wraps any other module as `OwnModule`.

    Arguments:
        module: a model, or a module that maps images `[N, C, H, W]` to logits `[N, levels, H, W]`.
        levels: number of levels of a value; None asks the module, by passing it one image.
        image_channels: number of their channels.
        shape: (height, width) of the images in pixels.

    Raises:
        TypeError: when it is not a module at all.
    """
    module = unwrapped(module)
    if isinstance(module, AutoregressiveModel):
        return module
    if not isinstance(module, nn.Module):
        raise TypeError(f"model is a {type(module).__name__}: give a torch.nn.Module.")
    if levels is None:
        parameter = next(module.parameters(), torch.zeros(()))
        with evaluation_mode(module), torch.no_grad():
            levels = module(parameter.new_zeros(1, image_channels, *shape)).shape[1]
    return OwnModule(module, levels, image_channels, image_size=shape[1])


def list_pretrained() -> list[str]:
    """Lists the names of the weights that come with the package.

    Example:
        >>> "pixelcnn-digits" in list_pretrained()
        True
    """
    return sorted(path.parent.name for path in PRETRAINED.glob("*/config.json"))


def load_pretrained(name: str) -> AutoregressiveModel:
    """Loads weights that come with the package, with their training record as `.card`.

    Arguments:
        name: one of `list_pretrained()`.

    Returns:
        the model in evaluation mode, on the CPU.

    Raises:
        ValueError: for another name.

    Example:
        >>> model = load_pretrained("pixelcnn-digits")
        >>> model.card["data"]
        'digits'
    """
    if name not in list_pretrained():
        raise ValueError(f"no weights are called {name!r}; there are: {', '.join(list_pretrained())}.")
    return AutoregressiveModel.from_pretrained(PRETRAINED / name)
