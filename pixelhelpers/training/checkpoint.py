"""What a training run is: its `Settings` (with the `name_of` an augmentation), and `Run`, its state and its file.

A checkpoint is one safetensors file, replaced as a whole: weights, their moving average, the best average so far,
the optimiser's moments and the random state, with settings and everything else as JSON in its header.
"""

import functools
import json
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ..errors import require
from ..files import write_weights
from ..hardware import PRECISIONS
from ..models.base import AutoregressiveModel
from .history import History

FORMAT = 2
CHECKPOINT = "last.safetensors"
COUNTERS = ("epoch", "batch", "step", "seconds", "nats", "values")


@dataclass(frozen=True)
class Settings:
    """All that decides what a run computes: a checkpoint stores them, and is resumed with equal ones only.

    Arguments:
        model: the model's class.
        network: the arguments that it was built with.
        data: name and number of the training images.
        epochs, batch_size, lr, weight_decay, clip, ema, patience, seconds, seed, precision: as for `fit`; another
            patience may be given when a run is resumed.
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
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    patience: int | None = None
    seconds: float | None = None
    augment: str | None = None
    seed: int = 0
    precision: str = "no"

    def __post_init__(self):
        for name, fits, expected in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("lr", 0 < self.lr < math.inf, "a positive number"),
            ("clip", self.clip > 0, "a positive number"),
            ("ema", 0 <= self.ema < 1, "a number in [0, 1)"),
            ("patience", self.patience is None or self.patience >= 1, "at least 1, or None"),
            ("seconds", self.seconds is None or self.seconds > 0, "a positive number, or None"),
            ("precision", self.precision in PRECISIONS, f"one of {PRECISIONS}"),
        ):
            require(fits, f"{name} is {getattr(self, name)!r}: give {expected}.")

    def differences(self, stored: dict[str, Any]) -> list[str]:
        """Names what decides the result and is not as it was stored."""
        own = json.loads(json.dumps(asdict(self), default=float))
        return [name for name in own if name != "patience" and own[name] != stored.get(name)]


def name_of(augment: Callable | None) -> str | None:
    """Says what settings call an augmentation: its name and the arguments that are fixed.

    Example:
        >>> name_of(functools.partial(sorted, reverse=True))
        'sorted(reverse=True)'
    """
    if augment is None:
        return None
    if isinstance(augment, functools.partial):
        fixed = [*map(repr, augment.args), *(f"{name}={value!r}" for name, value in augment.keywords.items())]
        return f"{name_of(augment.func)}({', '.join(fixed)})"
    return getattr(augment, "__qualname__", type(augment).__qualname__)


def _moving_average(decay: float):
    """An exponential moving average that forgets its start: early on it averages the last tenth."""

    def update(averages: list[Tensor], weights: list[Tensor], count: Tensor) -> None:
        rate = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averages, weights, rate)

    return update


class Run:
    """The state of a training run, and how it is written to and read from a file.

    Arguments:
        model: the model, where it will be trained.
        settings: what decides the result.
    """

    def __init__(self, model: AutoregressiveModel, settings: Settings):
        self.model, self.settings = model, settings
        self.average = AveragedModel(model, multi_avg_fn=_moving_average(settings.ema))
        # Fused where it exists: one pass over the weights instead of one per arithmetic operation.
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, betas=(0.9, 0.999), fused=True
        )
        self.history, self.best = History(), math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.epoch = self.batch = self.step = self.seconds = 0
        self.nats = self.values = 0  # summed since the epoch began

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
        parts = {
            "random": {"cpu": torch.get_rng_state(), **cuda},
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best_weights,
            **{f"optimizer.{index}": moments for index, moments in self.optimizer.state_dict()["state"].items()},
        }
        tensors = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
        numbers = {
            "format": FORMAT,
            "settings": asdict(self.settings),
            "history": self.history,
            "best": self.best if math.isfinite(self.best) else None,
            "counters": {name: getattr(self, name) for name in COUNTERS},
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        write_weights(folder / CHECKPOINT, tensors, {"run": json.dumps(numbers, default=float)})

    def load(self, path: Path, scaler: torch.amp.GradScaler | None) -> None:
        """Goes on where the checkpoint stopped.

        Raises:
            ValueError: for a file that is not whole, of another version, or of a run with other settings.
        """
        try:
            with safe_open(path, framework="pt") as file:
                numbers = json.loads(file.metadata()["run"])
                version, stored = numbers.get("format"), dict(numbers["settings"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a whole checkpoint ({error!r}): start without resume.") from None
        require(
            version == FORMAT,
            f"{path} has format {version!r}, this package resumes {FORMAT}: train anew into another folder, or "
            "go on with the version that wrote it.",
        )
        for name in self.settings.differences(stored):
            raise ValueError(
                f"{path} was trained with {name}={stored.get(name)!r}, now {name}={getattr(self.settings, name)!r} is "
                "asked for: resume with the same settings, or train into another folder."
            )
        parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, value in tensors.items():
            part, _, rest = name.rpartition(".") if name.startswith("optimizer.") else name.partition(".")
            parts[part][rest] = value
        self.model.load_state_dict(parts["model"])
        self.average.load_state_dict(parts["average"])
        moments = {int(part.removeprefix("optimizer.")): parts[part] for part in parts if part.startswith("optimizer.")}
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        torch.set_rng_state(parts["random"]["cpu"])
        if "cuda" in parts["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(parts["random"]["cuda"])
        if scaler is not None and numbers["scaler"]:
            scaler.load_state_dict(numbers["scaler"])
        self.history, self.best_weights = History(numbers["history"]), parts["best"]
        self.best = math.inf if numbers["best"] is None else numbers["best"]
        for name in COUNTERS:
            setattr(self, name, numbers["counters"][name])
