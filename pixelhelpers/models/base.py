"""What all models share: `AutoregressiveModel`, `Stepper` and `Recipe`; `structure`, `at_least`, `evaluation_mode`."""

import inspect
import json
import reprlib
import threading
from abc import ABCMeta
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..arguments import integers, real, whole
from ..errors import brief, require
from ..files import pack_weights, read_header, read_json, read_weights, write_together
from ..stepping import WHOLE_ROW, Front, Fronts, Wavefront, raster_order
from .heads import At, Conditionals, Head

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PLAIN = str | int | float | list | tuple | dict | None
MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def at_least(least: int, **given: int) -> None:
    """Refuses a constructor's numbers that are too small or no whole numbers, by name.

    Example:
        >>> at_least(1, blocks=0)
        Traceback (most recent call last):
        ValueError: blocks is 0: give at least 1.
    """
    for name, number in given.items():
        require(whole(name, number) >= least, f"{name} is {number}: give at least {least}.")


def structure(module: nn.Module) -> list[tuple[str, type, str]]:
    """Lists the parts of a module with their settings: what a `Stepper` relies on.

    Example:
        >>> structure(nn.Sequential(nn.ReLU()))[1]
        ('0', <class 'torch.nn.modules.activation.ReLU'>, '')
    """
    return [(name, type(part), part.extra_repr()) for name, part in module.named_modules()]


class Recipe(NamedTuple):
    """How a family is trained when nobody says otherwise, by one optimiser."""

    optimizer: str
    batch_size: int
    lr: float


class Stepper:
    """A model's other way to run, front after front, for one sampling call; it holds the call's caches.

    Arguments:
        model: the model.
        wave: the fronts.
    """

    def __init__(self, model: "AutoregressiveModel", wave: Fronts):
        self.wave = wave
        self.scaled = model.scaled(torch.arange(model.levels, device=wave.like.device)[:, None])  # of every level

    def predict(self, front: Front) -> Conditionals:
        """Gives the conditionals of a front's values, batch `[front.size]`."""
        raise NotImplementedError

    def put(self, front: Front, levels: Tensor) -> None:
        """Tells the model what they became, int64 `[front.size]`."""
        raise NotImplementedError

    def read(self, row: Front, levels: Tensor) -> bool:
        """Takes in a whole row that is known, as if every value of it had been predicted and put.

        Arguments:
            row: the band of its pixels.
            levels: its values, int64 `[C, W, N]`.

        Returns:
            whether it did; a model that cannot wants each front by itself.
        """
        return False


def _taken(parameter: inspect.Parameter, value: Any) -> Any:
    """A number of any library as Python's own, which a file can hold; refused where the annotation wants one."""
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:  # for the base class, which asks again
        return {name: _plain(part) for name, part in value.items()}
    wanted = get_args(parameter.annotation) or (parameter.annotation,)
    for kind, take in ((int, whole), (float, real)):
        if set(wanted) <= {kind, type(None)} and parameter.kind not in MANY:
            return None if value is None and type(None) in wanted else take(parameter.name, value)
    return _plain(value)


def _plain(value: Any) -> Any:
    return value.item() if getattr(value, "ndim", 1) == 0 else value


class _Recorded(ABCMeta):
    """Notes of every model what its constructor was given, and of which parts it was built.

    Numbers are taken from any library, by the constructor's annotations; what is none is refused.
    """

    def __call__(cls, *given: Any, **named: Any):
        signature = inspect.signature(cls.__init__)
        call = signature.bind(cls, *given, **named)
        for name, value in call.arguments.items():
            call.arguments[name] = _taken(signature.parameters[name], value)
        model = super().__call__(*call.args[1:], **call.kwargs)
        call.apply_defaults()
        kind = {name: parameter.kind for name, parameter in signature.parameters.items()}
        # What a file cannot hold, such as a module or a function, is a part and no setting.
        settings = {
            name: value
            for name, value in (call.arguments | call.kwargs).items()
            if isinstance(value, PLAIN) and kind.get(name) not in MANY
        }
        model.settings = settings | vars(model).get("settings", {})  # a constructor may say how it completed them
        model.built_of = structure(model) if "stepper" in vars(cls) else []
        return model


class AutoregressiveModel(nn.Module, metaclass=_Recorded):
    """An image model that factorises p(x) into one conditional per value, in a fixed order.

    Subclasses define `forward(x, label)` (the parameters of every conditional) and `head`, which says what they
    mean. Those that can be sampled with caches also define `stepper(wave, label)`, which gives a `Stepper`, and
    `lag` where a row need not wait for the whole row above. Images are integers in `[0, levels)` everywhere;
    `scale` maps them to [-1, 1]. After the constructor has run, `settings` holds the arguments that it was given,
    as far as a file can hold them.

    Arguments:
        levels: number of levels of a value, at least 2; more than 256 are held as int64, not as bytes.
        image_channels: number of image channels.
        image_size: side in pixels that `sample` draws when it is not told another.
        classes: number of classes to condition on, or None.
        dropout: probability in [0, 1) that a feature is dropped in training.
    """

    head: Head
    recipes: ClassVar[tuple[Recipe, ...]] = (Recipe("adam", 32, 1e-3), Recipe("muon", 16, 0.02))  # the default first
    card: dict | None = None
    begun_with: dict | None = None  # which weights a training began with, and their card
    settings: dict[str, Any]
    built_of: list[tuple[str, type, str]]
    _known: ClassVar[dict[str, type["AutoregressiveModel"]]] = {}

    def __init_subclass__(cls, loadable: bool = True, **keywords: Any):
        super().__init_subclass__(**keywords)
        # A learner's own class of the same name must not take the place of the package's.
        if loadable and cls.__module__.startswith(f"{__package__}."):
            AutoregressiveModel._known[cls.__name__] = cls

    def __init__(self, *, levels: int, image_channels: int, image_size: int, classes: int | None, dropout: float = 0.0):
        super().__init__()
        at_least(2, levels=levels)
        at_least(1, image_channels=image_channels, image_size=image_size)
        require(
            classes is None or whole("classes", classes) >= 1,
            f"classes is {classes}: give at least 1, or None for a model without classes.",
        )
        require(0 <= real("dropout", dropout) < 1, f"dropout is {dropout}: give a number from 0 to below 1.")
        self.levels, self.image_channels, self.image_size, self.classes = levels, image_channels, image_size, classes

    # -- input ------------------------------------------------------------------------------------

    def scale(self, x: Tensor) -> Tensor:
        """Maps integer images to numbers in [-1, 1] of the model's own precision.

        Arguments:
            x: `[N, C, H, W]`, values in `[0, levels)`.

        Raises:
            ValueError: for another number of axes or channels.
        """
        require(
            x.dim() == 4 and x.shape[1] == self.image_channels,
            f"images have shape {tuple(x.shape)}: give [N, {self.image_channels}, height, width].",
        )
        return self.scaled(x)

    def scaled(self, levels: Tensor) -> Tensor:
        """Maps integers of any shape, such as the table of all levels, as `scale` maps images."""
        return levels.to(next(self.parameters()).dtype) * (2 / (self.levels - 1)) - 1

    def values(self, x: Tensor) -> Tensor:
        """Gives images as the int64 levels that are scored, whatever type they come in.

        Arguments:
            x: images of any type, values in `[0, levels)`.

        Raises:
            ValueError: for fractions: images that somebody has scaled already; for values off the levels.
        """
        # A GPU is not asked: that would stop it.
        if x.is_floating_point() and x.device.type == "cpu" and (x != x.round()).any():
            raise ValueError(
                f"images hold fractions such as {float(x[x != x.round()][0]):g}: give levels, integers from 0 to "
                f"{self.levels - 1}; the model scales them itself."
            )
        x = x.long()
        asked = x.device.type == "cpu" and x.numel() and not torch.compiler.is_compiling()
        if asked and not 0 <= int(x.min()) <= int(x.max()) < self.levels:
            raise ValueError(
                f"images run from {int(x.min())} to {int(x.max())}: the model knows {self.levels} levels, 0 … "
                f"{self.levels - 1}."
            )
        return x

    def labels(self, label: int | Tensor | None, count: int) -> Tensor | None:
        """Brings labels into the shape `[count]`, int64, on the model's device.

        Arguments:
            label: a class in `[0, classes)`, one per image, or None for a model without classes.
            count: number of images.

        Raises:
            ValueError: for a missing, superfluous, misshapen or out-of-range label.
        """
        if self.classes is None:
            require(label is None, "label was given, but the model was built without classes: leave it out.")
            return None
        require(
            label is not None,
            f"label is missing: the model knows {self.classes} classes; give label=0 … {self.classes - 1} "
            "or one per image.",
        )
        label = integers("label", label, f"one integer, or {count} of them")
        require(
            label.dim() <= 1 and label.numel() in (1, count),
            f"label has type {label.dtype} and shape {tuple(label.shape)}: give one integer, or {count} of them.",
        )
        # A GPU is not asked: that would stop it. There, the look-up of the class fails by itself.
        asked = label.device.type == "cpu" and not torch.compiler.is_compiling()
        if asked and not 0 <= int(label.min()) <= int(label.max()) < self.classes:
            raise ValueError(
                f"label runs from {int(label.min())} to {int(label.max())}: the model knows 0 … {self.classes - 1}."
            )
        return label.to(next(self.parameters(), label).device, torch.long).expand(count)

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
        return self.head.conditionals(self(x, label), x, at)

    def conditional_parameters(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        """Gives the numbers that fix every conditional: what the probes watch.

        For a softmax that is `forward`. A mixture leaves some of the dependence between values to the
        distribution, and gives the parameters of the conditionals instead.

        Arguments:
            x: images `[N, C, H, W]`, values in `[0, levels)`.
            label: class or classes `[N]`, for a model with classes.

        Returns:
            `[N, parameters, H, W]` or `[N, parameters, C, H, W]`.
        """
        return self.head.conditional_parameters(self(x, label), x)

    def log_prob(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        """Gives the log-likelihood of whole images: the sum of all conditionals' log-probabilities.

        Arguments:
            x: images `[N, C, H, W]`, integers in `[0, levels)`.
            label: class or classes `[N]`, for a model with classes.

        Returns:
            nats `[N]`, at most 0.
        """
        return self.head.log_prob(self(x, label), self.values(x))

    def order(self, shape: tuple[int, ...]) -> Tensor:
        """Gives the rank of every value in the drawing order; equal ranks are drawn together.

        Arguments:
            shape: (height, width), or (channels, height, width).

        Returns:
            int64 `[C, H, W]`: by default raster order, then channel.
        """
        return raster_order((self.image_channels, *shape[-2:]))

    def pixel_layers(self) -> list[nn.Module]:
        """Lists the layers that read pixels or write what is said of them, which an optimiser treats apart.

        By default these are the first and the last convolution or linear layer, in order of definition.
        """
        layers = [layer for layer in self.modules() if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear)]
        return layers[:1] + layers[-1:]

    @property
    def lag(self) -> int:
        """By how many columns a row must be ahead of the row below it: by default by all of them."""
        return WHOLE_ROW

    def stepper(self, wave: Fronts, label: Tensor | None = None) -> Stepper:
        """Gives the model's other way to run, for one sampling call.

        Arguments:
            wave: what `fronts` gives.
            label: classes `[N]`, for a model with classes.
        """
        raise NotImplementedError

    def fronts(self, count: int, shape: tuple[int, int, int], like: Tensor) -> Fronts:
        """Says which values a `stepper` computes together, in which order: by default lines of pixels.

        Arguments:
            count: number of images.
            shape: (C, H, W) of an image.
            like: a tensor of the precision and on the device of the features.
        """
        return Wavefront(count, shape, self.lag, like)

    # -- files ------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes `config.json` and `model.safetensors`, both or neither.

        Arguments:
            folder: made if missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"class": type(self).__name__, "format": FORMAT, "settings": self.settings}
        write_together(
            {
                folder / WEIGHTS: pack_weights(self._weights_to_save(), {"config": config}),
                folder / CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
            }
        )

    def _weights_to_save(self) -> dict[str, Tensor]:
        return self.state_dict()

    @classmethod
    def from_pretrained(cls, folder: str | Path):
        """Builds the model that `save_pretrained` wrote, in evaluation mode, on the CPU.

        What does not fit is refused before it costs memory: a file of somebody else's may say anything.

        Arguments:
            folder: holds `config.json` and `model.safetensors`; a `card.json` beside them becomes `.card`.

        Raises:
            FileNotFoundError: when one of the two files is missing.
            ValueError: for an unknown class, format or setting, two files that do not belong together, or weights of
                other names, shapes or types, or that are not finite.
        """
        folder = Path(folder)
        for name in (CONFIG, WEIGHTS):
            require(
                (folder / name).is_file(),
                f"{folder} holds no {name}: give a folder that save_pretrained wrote"
                f"{f'; {folder}/best is one' if (folder / 'best' / name).is_file() else ''}.",
                FileNotFoundError,
            )
        config = cls._config(folder / CONFIG)
        shapes, about = read_header(folder / WEIGHTS)
        model = cls._built(config, shapes, folder)
        require(
            about.get("config", config) == config,
            f"{folder / CONFIG} and {WEIGHTS} do not belong together: {_differences(config, about.get('config'))}; "
            "save or fetch both again.",
        )
        model.load_state_dict(_fitting_weights(model, folder / WEIGHTS))
        if (folder / "card.json").is_file():
            try:
                model.card = read_json(folder / "card.json")
            except ValueError as error:
                raise ValueError(
                    f"{folder / 'card.json'} is not a whole record ({brief(error)}): fetch it again."
                ) from None
        return model.eval()

    @classmethod
    def _kinds(cls) -> dict[str, type["AutoregressiveModel"]]:
        """The classes that a file may name; somebody's own class loads what it has saved."""
        return {kind.__name__: kind for kind in (*cls._known.values(), cls) if issubclass(kind, cls)}

    @classmethod
    def _config(cls, path: Path) -> dict[str, Any]:
        try:
            config = read_json(path)
            name, version, settings = config["class"], config["format"], config["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a model's configuration ({brief(error)}): fetch it again.") from None
        if name == "OwnModule":
            kind = settings.get("module") if isinstance(settings, dict) else None
            raise ValueError(
                f"{path.parent} holds the weights of a module of one's own, {reprlib.repr(kind)}: build that, and load "
                f"them in Python, module.load_state_dict(safetensors.torch.load_file('{path.parent}/{WEIGHTS}'))."
            )
        known = cls._kinds()
        require(
            isinstance(name, str) and name in known,
            f"{path} names the class {reprlib.repr(name)}; known here: {', '.join(sorted(known))}. A class of your own "
            "loads what it saved: YourClass.from_pretrained(folder).",
        )
        require(
            version == FORMAT,
            f"{path} has format {reprlib.repr(version)}, this package reads {FORMAT}: update the package.",
        )
        require(
            isinstance(settings, dict),
            f"{path} has settings that {name} does not take: they are a {type(settings).__name__}.",
        )
        return config

    @classmethod
    def _built(cls, config: dict[str, Any], shapes: dict[str, tuple[int, ...]], folder: Path) -> "AutoregressiveModel":
        """Builds the network of a configuration if weights of these shapes fit it."""
        kind, settings = cls._kinds()[config["class"]], config["settings"]
        try:
            if kind.__module__.startswith(f"{__package__}."):  # a constructor of one's own may want more than paper
                # Patience may end anywhere, also where a constructor switches gradients back on.
                gradients = torch.set_grad_enabled(torch.is_grad_enabled())
                with gradients, torch.device("meta"), _Patience(1000 + 100 * len(shapes)):
                    on_paper = kind(**settings)
                _check_shapes(on_paper, shapes, folder)
            model = kind(**settings)
        except _Unfit:
            raise
        except Exception as error:  # a constructor raises whatever strange settings make it trip over
            raise ValueError(
                f"{folder / CONFIG} has settings that {kind.__name__} does not take: {brief(error)}"
            ) from None
        _check_shapes(model, shapes, folder)
        return model


class _Unfit(ValueError):
    """Weights and configuration do not fit; the message says it all."""


class _Patience(TorchFunctionMode):
    """Stops a constructor that goes on and on, in this thread only."""

    def __init__(self, most: int):
        super().__init__()
        self.left = most

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.left -= 1
        require(self.left > 0, "they describe more layers than there are weights for.")
        return function(*args, **(kwargs or {}))


def _differences(config: dict[str, Any], other: Any) -> str:
    """Says where two configurations differ."""
    one, two = (
        ({**each, "settings": None} | each["settings"])
        if isinstance(each, dict) and isinstance(each.get("settings"), dict)
        else {"all": each}
        for each in (config, other)
    )
    differing = [name for name in one | two if one.get(name) != two.get(name)]
    return ", ".join(
        f"{brief(name)} is {reprlib.repr(one.get(name))} there, {reprlib.repr(two.get(name))} here"
        for name in differing[:3]
    )


def _check_shapes(model: AutoregressiveModel, shapes: dict[str, tuple[int, ...]], folder: Path) -> None:
    """Refuses weights of other names or shapes than the model's, by name."""
    own, kind = model.state_dict(), type(model).__name__
    for name in sorted(own.keys() | shapes.keys()):
        short = brief(repr(name))
        require(name in shapes, f"{folder / WEIGHTS} lacks the weight {short} of {kind}.", _Unfit)
        require(name in own, f"{folder / WEIGHTS} holds {short}, unknown to {kind}.", _Unfit)
        require(
            own[name].shape == shapes[name],
            f"weight {short} has shape {shapes[name]}, but {folder / CONFIG} describes {tuple(own[name].shape)}.",
            _Unfit,
        )


def _fitting_weights(model: AutoregressiveModel, path: Path) -> dict[str, Tensor]:
    """Reads weights of the model's names and shapes; floats of any width become the model's, and must be finite."""
    weights, parameters = read_weights(path), dict(model.named_parameters(remove_duplicate=False))
    for name, own in model.state_dict().items():
        given = weights[name].dtype
        require(
            given == own.dtype or (given in FLOATS and own.dtype in FLOATS),
            f"weight {name!r} of {path} is {given}, {type(model).__name__} has {own.dtype}: convert it.",
        )
        if own.dtype in FLOATS:
            weights[name] = value = weights[name].to(own.dtype)
            # Buffers may hold infinities, as masks do.
            bad = ~value.isfinite() if name in parameters else value.isnan()
            require(
                not bad.any(),
                f"weight {name!r} of {path} holds {int(bad.sum())} values that are no finite numbers: these weights "
                "are spoilt; take earlier ones.",
            )
    return weights


# Of each part that somebody holds in evaluation mode: the mode it was in, and how many hold it.
_modes: WeakKeyDictionary[nn.Module, list] = WeakKeyDictionary()
_modes_lock = threading.Lock()


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Puts a module into evaluation mode, and afterwards each of its parts back into the mode it was in.

    Several threads may ask that of one module, or of modules that share parts: a part goes back when the last is done.

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
    parts = list(module.modules())
    with _modes_lock:
        for part in parts:
            held = _modes.setdefault(part, [part.training, 0])
            held[1] += 1
        module.eval()
    try:
        yield
    finally:
        with _modes_lock:
            for part in parts:
                held = _modes[part]
                held[1] -= 1
                if not held[1]:
                    part.training = held[0]
                    del _modes[part]
