"""What a training run is: `Settings` (with `name_of` an augmentation), its `run_folder`, and `Run`, state and file.

A checkpoint is one safetensors file, replaced as a whole: weights, their moving average, the best average so far,
the optimiser's memory and the random state, with settings and everything else as JSON in its header.
"""

import functools
import json
import math
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from ..errors import brief, require
from ..files import read_header, read_weights, sweep, write_weights
from ..hardware import PRECISIONS
from ..models.base import CONFIG, WEIGHTS, AutoregressiveModel
from .history import History
from .optimizers import OPTIMIZERS

FORMAT = 4
CHECKPOINT = "last.safetensors"
COUNTERS = ("batch", "step", "seconds", "nats", "values")


@dataclass(frozen=True)
class Settings:
    """All that decides what a run computes: a checkpoint stores them, and is resumed with equal ones only.

    Arguments:
        model: the model's class.
        network: the arguments that it was built with.
        data: name and number of the training images.
        epochs, batch_size, lr, weight_decay, clip, ema, patience, seconds, scores_per_epoch, seed, precision: as
            for `fit`; another patience may be given when a run is resumed.
        optimizer: "adam", "muon", or the class of another one.
        augment: the name of the augmentation, or None.

    Raises:
        ValueError: for a number out of its range.

    Example:
        >>> Settings("PixelCNN", {}, "digits, 4000 images", epochs=0)
        Traceback (most recent call last):
        ValueError: epochs is 0: give at least 1.
    """

    model: str
    network: dict[str, Any]
    data: str
    epochs: int
    optimizer: str = "adam"
    batch_size: int = 32
    lr: float | None = 1e-3
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    patience: int | None = None
    seconds: float | None = None
    scores_per_epoch: int = 1
    augment: str | None = None
    seed: int = 0
    precision: str = "no"

    def __post_init__(self):
        for name, fits, expected in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("lr", self.lr is None or 0 < self.lr < math.inf, "a positive number"),
            ("clip", self.clip > 0, "a positive number"),
            ("ema", 0 <= self.ema < 1, "a number in [0, 1)"),
            ("patience", self.patience is None or self.patience >= 1, "at least 1, or None"),
            ("scores_per_epoch", isinstance(self.scores_per_epoch, int) and self.scores_per_epoch >= 1, "at least 1"),
            ("seconds", self.seconds is None or self.seconds > 0, "a positive number, or None"),
            ("precision", self.precision in PRECISIONS, f"one of {PRECISIONS}"),
        ):
            require(fits, f"{name} is {getattr(self, name)!r}: give {expected}.")

    def differences(self, stored: dict[str, Any]) -> list[str]:
        """Names what decides the result and is not as it was stored."""
        own = json.loads(json.dumps(asdict(self), default=float))
        return [name for name in own if name != "patience" and own[name] != stored.get(name)]


def name_of(function: Callable | None) -> str | None:
    """Says what settings call a function: its name and the arguments that are fixed.

    Example:
        >>> name_of(functools.partial(sorted, reverse=True))
        'sorted(reverse=True)'
    """
    if function is None:
        return None
    if isinstance(function, functools.partial):
        fixed = [*map(repr, function.args), *(f"{name}={value!r}" for name, value in function.keywords.items())]
        return f"{name_of(function.func)}({', '.join(fixed)})"
    return getattr(function, "__qualname__", type(function).__qualname__)


def run_folder(folder: str | Path) -> Path:
    """Takes the name of a run's folder.

    Raises:
        ValueError: for an empty one, which would be the current directory.

    Example:
        >>> run_folder("")
        Traceback (most recent call last):
        ValueError: folder is '': give the run's folder a name.
    """
    require(bool(str(folder).strip()), f"folder is {folder!r}: give the run's folder a name.")
    return Path(folder)


class Run:
    """The state of a training run, and how it is written to and read from a file.

    Arguments:
        model: the model, where it will be trained.
        settings: what decides the result.
        optimizer: the optimiser of its weights.
    """

    def __init__(self, model: AutoregressiveModel, settings: Settings, optimizer: Optimizer):
        self.model, self.settings = model, settings
        self.average = AveragedModel(model, multi_avg_fn=self._move_average)
        self.optimizer = optimizer
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]  # the highest of each group
        self.groups = self._groups()  # as they were made
        recipe = f"{settings.optimizer}, {settings.batch_size} images a step, rate {max(self.rates):g}"
        self.history, self.best = History(recipe=recipe), math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.batch = self.step = self.seconds = 0
        self.nats = self.values = 0  # summed since the last score

    def _move_average(self, averages: list[Tensor], weights: list[Tensor], _) -> None:
        """Moves it by a step, early on so far that it forgets the start: it averages the last tenth."""
        # Not by the count that is given: a GPU would have to be waited for to read it.
        rate = 1 - min(self.settings.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(averages, weights, rate)

    def _groups(self) -> list[dict[str, Any]]:
        """What the optimiser's groups hold, as JSON gives it back: parameters by their names, settings."""
        names = {weight: name for name, weight in self.model.named_parameters()}

        def plain(value: Any) -> Any:
            return float(value) if isinstance(value, Tensor) else name_of(value)

        groups = [
            group | {"params": [names[weight] for weight in group["params"]]} for group in self.optimizer.param_groups
        ]
        return json.loads(json.dumps(groups, default=plain))

    def keep_if_best(self, valid: float) -> bool:
        """Keeps the averaged weights if no epoch scored better; says whether it did."""
        is_best = valid < self.best
        if is_best:
            weights = self.average.module.state_dict()
            self.best, self.best_weights = valid, {name: value.detach().clone() for name, value in weights.items()}
        return is_best

    def save(self, folder: Path, scaler: torch.amp.GradScaler | None) -> None:
        """Writes the run's checkpoint into its folder, at once or not at all."""
        cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
        memory = self.optimizer.state_dict()["state"]
        parts = {
            "random": {"cpu": torch.get_rng_state(), **cuda},
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best_weights,
            **{f"optimizer.{index}": of_weight for index, of_weight in memory.items()},
        }
        values = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        plain = {name: value for name, value in values.items() if name not in tensors}  # some optimisers keep such
        for name, value in plain.items():
            require(
                value is None or isinstance(value, bool | int | float | str),
                f"{type(self.optimizer).__name__} keeps a {type(value).__name__} ({name}), which a checkpoint cannot "
                "hold: train without a folder, or by another optimizer.",
                TypeError,
            )
        numbers = {
            "format": FORMAT,
            "settings": asdict(self.settings),
            "history": self.history,
            "best": self.best if math.isfinite(self.best) else None,
            "counters": {name: getattr(self, name) for name in COUNTERS},
            "plain": plain,
            "groups": {"made": self.groups, "now": self._groups()},
            "scaler": None if scaler is None else scaler.state_dict(),
            "begun_with": self.model.begun_with,
            "tensors": sorted(tensors),
        }
        write_weights(folder / CHECKPOINT, tensors, numbers)

    def clear(self, folder: Path) -> None:
        """Makes room for the files of a run: removes what killed runs left, and refuses a disk that is full."""
        for name in (CHECKPOINT, f"best/{CONFIG}", f"best/{WEIGHTS}"):
            sweep(folder / name)
        best = folder / "best"
        require(best.is_dir() or not best.exists(), f"{best} is no folder: move it away.", FileExistsError)
        weights = sum(value.nbytes for value in self.model.state_dict().values())
        needed = 10 * weights  # two checkpoints, the old one and its successor: weights, their averages, two moments
        free = shutil.disk_usage(folder).free
        require(
            free >= needed,
            f"{folder} has room for {free / 1e6:,.0f} MB, the checkpoints of this network need "
            f"{needed / 1e6:,.0f} MB: make room, or choose another folder.",
            OSError,
        )

    def load(self, path: Path, scaler: torch.amp.GradScaler | None) -> None:
        """Goes on where the checkpoint stopped.

        Raises:
            ValueError: for a file that is damaged, of another version, or of a run with other settings.
        """
        advice = _way_out(path)
        numbers = read_header(path, advice).about
        version = numbers.get("format")
        require(
            version == FORMAT,
            f"{path} has format {brief(repr(version))}, this package resumes {FORMAT}: train anew into another "
            "folder, or go on with the version that wrote it.",
        )
        tensors = read_weights(path, advice)
        try:
            require("digest" in numbers and sorted(tensors) == numbers["tensors"], "parts are missing")
            self._check_settings(path, numbers)
            self._check(numbers, tensors)
            self._take(numbers, tensors, scaler)
        except _Other:
            raise
        except Exception as error:  # what is damaged raises whatever it is taken for
            raise ValueError(f"{path} is damaged ({brief(repr(error))}): {advice}") from None

    def _check_settings(self, path: Path, numbers: dict[str, Any]) -> None:
        """Refuses the checkpoint of a run that is computed in another way."""
        stored = dict(numbers["settings"])
        for name in self.settings.differences(stored):
            raise _Other(
                f"{path} was trained with {name}={stored.get(name)!r}, now {name}={getattr(self.settings, name)!r} is "
                "asked for: resume with the same settings, or train into another folder."
            )
        made = numbers["groups"]["made"]
        others = [
            f"{name}={there.get(name)!r}, now {name}={here.get(name)!r}"
            for there, here in zip(made, self.groups, strict=False)
            for name in there | here
            if there.get(name) != here.get(name)
        ]
        require(
            made == self.groups,
            f"{path} was trained by an optimizer of other groups ({', '.join(others) or len(made)}): resume with the "
            "same optimizer, or train into another folder.",
            _Other,
        )
        began, asked = numbers["begun_with"], self.model.begun_with
        require(
            asked is None or asked == began,
            f"{path} is of a run that began with {(began or {}).get('weights', 'new weights')}, now "
            f"{(asked or {}).get('weights')} is asked for: leave --from as it was, or train into another folder.",
            _Other,
        )

    def _check(self, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Refuses what no run of these settings has written."""
        states = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        states |= {} if numbers["best"] is None else {"best": self.average.module.state_dict()}
        for part, state in states.items():
            for name, own in state.items():
                stored = tensors[f"{part}.{name}"]
                require(stored.shape == own.shape and stored.dtype == own.dtype, f"{part}.{name} is another's")
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        for name, stored in tensors.items():
            part, index, *_ = name.split(".")
            if part == "optimizer" and self.settings.optimizer in OPTIMIZERS:
                require(stored.numel() in (1, weights[int(index)].numel()), f"{name} is another's")
        values = [numbers["counters"][name] for name in COUNTERS]
        values += [row[name] for row in numbers["history"] for name in History.COLUMNS]
        values += [] if numbers["best"] is None else [numbers["best"]]
        require(all(type(value) in (int, float) and math.isfinite(value) for value in values), "numbers are none")

    def _take(self, numbers: dict[str, Any], tensors: dict[str, Tensor], scaler: torch.amp.GradScaler | None) -> None:
        """Goes on from there."""
        parts: dict[str, dict[str, Any]] = defaultdict(dict)
        for name, value in (tensors | numbers["plain"]).items():
            part, name = name.split(".", 1)
            if part == "optimizer":
                index, name = name.split(".", 1)
                part = f"optimizer.{index}"
            parts[part][name] = value
        self.model.load_state_dict(parts["model"])
        self.average.load_state_dict(parts["average"])
        moments = {int(part.removeprefix("optimizer.")): parts[part] for part in parts if part.startswith("optimizer.")}
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        for group, stored in zip(self.optimizer.param_groups, numbers["groups"]["now"], strict=True):
            for name, value in stored.items():  # some optimisers count there
                if name != "lr" and isinstance(value, int | float) and isinstance(group[name], int | float):
                    group[name] = value
        torch.set_rng_state(parts["random"]["cpu"])
        if "cuda" in parts["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(parts["random"]["cuda"])
        if scaler is not None and numbers["scaler"]:
            scaler.load_state_dict(numbers["scaler"])
        self.history, self.best_weights = History(numbers["history"], self.history.recipe), parts["best"]
        self.best = math.inf if numbers["best"] is None else numbers["best"]
        for name in COUNTERS:
            setattr(self, name, numbers["counters"][name])
        self.model.begun_with = numbers["begun_with"]


class _Other(ValueError):
    """The checkpoint is whole and belongs to another run; the message says it all."""


def _way_out(path: Path) -> str:
    """What to do with a damaged checkpoint."""
    best = path.parent / "best"
    begin = (
        f", or begin another run with the best weights so far, {best} (--from)" if (best / WEIGHTS).is_file() else ""
    )
    return f"move it away to train anew{begin}."
