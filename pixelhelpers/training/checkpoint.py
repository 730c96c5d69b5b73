"""What a training run is: its `Settings` (with the `name_of` an augmentation), and `Run`, its state and its file,
with the `random_state` of every process.

A checkpoint is one safetensors file, replaced as a whole: weights, their moving average, the best average so far,
the optimiser's memory and the random state, with settings and everything else as JSON in its header.
"""

import functools
import json
import math
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from ..arguments import real, shown, whole
from ..errors import AnotherRun, brief, require
from ..files import read_header, read_weights, sweep, write_weights
from ..models.base import CONFIG, WEIGHTS, AutoregressiveModel
from ..processes import Processes
from .history import History
from .optimizers import OPTIMIZERS

FORMAT = 4
CHECKPOINT = "last.safetensors"
LARGEST_SEED = 2**63 - 1
MANY = 2**31 - 1  # of epochs, of images, …
TINY, HUGE = sys.float_info.min, sys.float_info.max  # no zero, no infinity
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
        for name, kind, least, most, expected in (
            ("epochs", whole, 1, MANY, "at least 1"),
            ("batch_size", whole, 1, MANY, "at least 1"),
            ("lr", real, TINY, HUGE, "a positive number"),
            ("weight_decay", real, 0, HUGE, "a number from 0"),
            ("clip", real, TINY, HUGE, "a positive number"),
            ("ema", real, 0, math.nextafter(1, 0), "a number in [0, 1)"),
            ("patience", whole, 1, MANY, "at least 1, or None"),
            ("scores_per_epoch", whole, 1, MANY, "at least 1"),
            ("seconds", real, TINY, HUGE, "a positive number, or None"),
            ("seed", whole, 0, LARGEST_SEED, "a number from 0 to 2**63 - 1"),
        ):
            given = getattr(self, name)
            if given is not None or name not in ("lr", "patience", "seconds"):
                number = kind(name, given)  # of NumPy or a tensor: a file can hold Python's own only
                require(least <= number <= most, f"{name} is {shown(number)}: give {expected}.")
                object.__setattr__(self, name, number)

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

    def save(self, folder: Path, scaler: torch.amp.GradScaler | None, random: dict[str, Tensor]) -> None:
        """Writes the run's checkpoint into its folder, at once or not at all, with every process's random state."""
        memory = self.optimizer.state_dict()["state"]
        parts = {
            "random": random,
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

    def load(self, path: Path, scaler: torch.amp.GradScaler | None, processes: Processes) -> None:
        """Goes on where the checkpoint stopped.

        In another number of processes the batches are the same, but what is drawn at random is drawn anew.

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
            self._check(path, numbers, tensors)
            self._take(numbers, tensors, scaler, processes)
        except AnotherRun:
            raise
        except Exception as error:  # what is damaged raises whatever it is taken for
            raise ValueError(f"{path} is damaged ({brief(repr(error))}): {advice}") from None

    def _check_settings(self, path: Path, numbers: dict[str, Any]) -> None:
        """Refuses the checkpoint of a run that is computed in another way."""
        stored = dict(numbers["settings"])
        for name in self.settings.differences(stored):
            there, here = stored.get(name), getattr(self.settings, name)
            if name == "network":  # of many settings, those that differ
                changed = [each for each in there | here if there.get(each) != here.get(each)]
                there, here = ({each: of.get(each) for each in changed} for of in (there, here))
            raise AnotherRun(
                f"{path} was trained with {name}={there!r}, now {name}={here!r} is "
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
            AnotherRun,
        )
        began, asked = numbers["begun_with"], self.model.begun_with
        require(
            asked is None or asked == began,
            f"{path} is of a run that began with {(began or {}).get('weights', 'new weights')}, now "
            f"{(asked or {}).get('weights')} is asked for: leave --from as it was, or train into another folder.",
            AnotherRun,
        )

    def _check(self, path: Path, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Refuses what no run of these settings has written."""
        states = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        states |= {} if numbers["best"] is None else {"best": self.average.module.state_dict()}
        for part, state in states.items():
            for name, own in state.items():
                stored = tensors[f"{part}.{name}"]
                there, here = (f"{tuple(each.shape)}, {each.dtype}" for each in (stored, own))
                require(
                    there == here,
                    f"{path} is of another network: its weight {name} is {there}, now {here}; resume with the same "
                    "network, or train into another folder.",
                    AnotherRun,
                )
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        for name, stored in tensors.items():
            part, index, *_ = name.split(".")
            if part == "optimizer" and self.settings.optimizer in OPTIMIZERS:
                require(stored.numel() in (1, weights[int(index)].numel()), f"{name} is another's")
        values = [numbers["counters"][name] for name in COUNTERS]
        values += [row[name] for row in numbers["history"] for name in History.COLUMNS]
        values += [] if numbers["best"] is None else [numbers["best"]]
        require(all(type(value) in (int, float) and math.isfinite(value) for value in values), "numbers are none")

    def _take(
        self,
        numbers: dict[str, Any],
        tensors: dict[str, Tensor],
        scaler: torch.amp.GradScaler | None,
        processes: Processes,
    ) -> None:
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
        if scaler is not None and numbers["scaler"]:
            scaler.load_state_dict(numbers["scaler"])
        self.history, self.best_weights = History(numbers["history"], self.history.recipe), parts["best"]
        self.best = math.inf if numbers["best"] is None else numbers["best"]
        for name in COUNTERS:
            setattr(self, name, numbers["counters"][name])
        self.model.begun_with = numbers["begun_with"]
        _set_random_state(parts["random"], processes, self.settings.seed + self.step)


def _way_out(path: Path) -> str:
    """What to do with a damaged checkpoint."""
    best = path.parent / "best"
    begin = (
        f", or begin another run with the best weights so far, {best} (--from)" if (best / WEIGHTS).is_file() else ""
    )
    return f"move it away to train anew{begin}."


def random_state(processes: Processes) -> dict[str, Tensor]:
    """Gives the states of every process's random numbers, one after the other, of the CPU and of its GPU."""
    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["cuda"] = torch.cuda.get_rng_state()
    return {device: processes.all(state).flatten() for device, state in own.items()}


def _set_random_state(stored: dict[str, Tensor], processes: Processes, seed: int) -> None:
    """Goes on with this process's random numbers; with new ones where another number of processes stored theirs."""
    states = stored["cpu"].view(-1, len(torch.get_rng_state()))
    if len(states) != processes.count:
        torch.manual_seed((seed + 1_000_003 * processes.rank) % LARGEST_SEED)
        return
    torch.set_rng_state(states[processes.rank].clone())  # PyTorch reads it from the start of its memory
    if "cuda" in stored and torch.cuda.is_available():
        torch.cuda.set_rng_state(stored["cuda"].view(processes.count, -1)[processes.rank].clone())
