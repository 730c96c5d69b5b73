"""Training by maximum likelihood: fit, evaluate, bits per dimension, checkpoints that resume.

Devices, mixed precision and several processes (`torchrun`) come from Accelerate. A checkpoint is one
safetensors file, replaced as a whole: weights, their moving average, the best average so far, the
optimiser's moments and the random state, with everything else as JSON in its header.

References:
    Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, https://arxiv.org/abs/1412.6980
    Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, equation 5,
    https://arxiv.org/abs/1608.03983
"""

import ctypes
import functools
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .data import Images
from .models.base import AutoregressiveModel, as_model, evaluation_mode, write_atomically
from .progress import progress_bar

SAVE_EVERY = 300.0  # seconds between two checkpoints inside an epoch
PRECISIONS = ("no", "bf16", "fp16")


def default_device() -> torch.device:
    """Gives the device that `fit` takes when it is not told another: a GPU if there is one, else the CPU.

    Example:
        >>> default_device().type in ("cuda", "mps", "xpu", "cpu")
        True
    """
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def present_device(device: str | None) -> str:
    """Gives the kind of a device by its name, if this machine has it.

    Arguments:
        device: "cpu", "cuda", "mps" or "cuda:0"; None chooses the best there is.

    Raises:
        ValueError: for a device that is not there.

    Example:
        >>> present_device("cpu")
        'cpu'
    """
    best = default_device().type
    kind = best if device is None else str(device).partition(":")[0]
    if kind not in (best, "cpu"):
        raise ValueError(f"device is {device!r}, which this machine lacks: give {best!r}, 'cpu', or leave it out.")
    return kind


def default_precision(device: str) -> str:
    """Gives the precision that `fit` takes when it is not told another: mixed where that is faster.

    On CUDA GPUs, and on CPUs with matrix units for bfloat16 (Intel AMX; only newer versions of PyTorch can
    tell), products are computed in a short format; weights, their averages and the optimiser's moments
    stay in float32. So two kinds of machines train to slightly different weights; give `precision="no"`
    where that matters.

    Arguments:
        device: "cuda", "mps" or "cpu".

    Example:
        >>> default_precision("mps")
        'no'
    """
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)
    return "bf16" if device == "cpu" and capabilities().get("amx_bf16") else "no"


def bits_per_dim(log_prob: Tensor, images: Tensor) -> Tensor:
    """Converts log-likelihoods to bits per dimension: how many bits a value costs on average.

    Arguments:
        log_prob: nats `[N]`, natural logarithm of the probability of each whole image.
        images: the images `[N, C, H, W]`, of which only the shape counts.

    Returns:
        `[N]`, positive; 8 for a uniform guess among 256 levels.

    Raises:
        ValueError: when the two do not belong together.

    Example:
        >>> x = torch.zeros(2, 1, 4, 4)
        >>> bits_per_dim(torch.full((2,), -16 * math.log(256)), x)
        tensor([8., 8.])
    """
    if images.dim() != 4 or log_prob.shape != images.shape[:1]:
        raise ValueError(
            f"log_prob has shape {tuple(log_prob.shape)} and images {tuple(images.shape)}: give [N] and [N, C, H, W]."
        )
    return log_prob / (-math.log(2) * images[0].numel())


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, batch_size: int = 100) -> float:
    """Scores images: the mean bits per dimension, on the device where the model is.

    Arguments:
        model: a model of the package, or a module that maps `[N, C, H, W]` to `[N, levels, H, W]`.
        images: `[N, C, H, W]`, integers in `[0, levels)`, at least one.
        labels: `[N]`, for a model with classes; others ignore them.
        batch_size: images per pass.

    Returns:
        bits per dimension, lower is better.

    Raises:
        ValueError: for images of another shape or with values off the levels, or missing labels.

    Example:
        >>> from pixelhelpers import PixelCNN
        >>> round(evaluate(PixelCNN(hidden=8, blocks=1), torch.zeros(2, 1, 4, 4, dtype=torch.uint8)))
        8
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: give at least 1.")
    model = _as_model_for(model, images, "images")
    _check_labels(model, labels, images, "labels")
    with evaluation_mode(model):
        return _total_nats(model, images, labels, batch_size) / (math.log(2) * images.numel())


def _total_nats(model: AutoregressiveModel, images: Tensor, labels: Tensor | None, batch_size: int) -> float:
    device = next(model.parameters(), images).device
    total = 0.0
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        label = None if model.classes is None or labels is None else labels[part].to(device)
        total -= model.log_prob(images[part].to(device), label).sum().item()
    return total


def _as_model_for(model: nn.Module, images: Tensor, name: str, levels: int | None = None) -> AutoregressiveModel:
    if images.dim() != 4 or len(images) == 0 or images.is_floating_point():
        raise ValueError(
            f"{name} has type {images.dtype} and shape {tuple(images.shape)}: give integers [N, C, H, W], N > 0."
        )
    model = as_model(model, levels=levels, image_channels=images.shape[1], shape=tuple(images.shape[-2:]))
    if int(images.min()) < 0 or int(images.max()) >= model.levels:
        raise ValueError(
            f"{name} has values from {int(images.min())} to {int(images.max())}, but the model knows "
            f"{model.levels} levels: give integers from 0 to {model.levels - 1}."
        )
    if images.shape[1] != model.image_channels:
        raise ValueError(
            f"{name} has {images.shape[1]} channels, but the model was built for {model.image_channels}: "
            f"build it with image_channels={images.shape[1]}."
        )
    model.order(tuple(images.shape[1:]))  # refuses a size that the model cannot draw
    return model


def _check_labels(model: AutoregressiveModel, labels: Tensor | None, images: Tensor, name: str) -> None:
    if model.classes is not None:
        if labels is not None and tuple(labels.shape) != (len(images),):
            raise ValueError(f"{name} has shape {tuple(labels.shape)}: give one per image, ({len(images)},).")
        model.labels(labels, len(images))


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Lets the C library keep freed memory for the next step instead of handing it back to the system.

    A training step on a CPU allocates the same large tensors again and again. Fresh pages for them take up
    to a third of its time. Holds for the whole process until the block ends, then gives back what is left
    over; does nothing where the C library is not glibc.

    References:
        The GNU C Library manual, "Malloc Tunable Parameters" (M_MMAP_MAX, M_TRIM_THRESHOLD).

    Example:
        >>> with keep_freed_memory():
        ...     product = torch.ones(64, 64) @ torch.ones(64, 64)
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, malloc_trim = library.mallopt, library.malloc_trim
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        yield
        return
    m_trim_threshold, m_mmap_max = -1, -4
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)
    try:
        yield
    finally:  # glibc's defaults
        mallopt(m_mmap_max, 65_536)
        mallopt(m_trim_threshold, 128 * 1024)
        malloc_trim(0)


# -- what a run leaves behind -----------------------------------------------------------------------


class History(list):
    """What happened in each epoch: a list of rows, shown as a table.

    Each row is a dict with `epoch`, `step` (optimiser steps so far), `train` and `valid` (bits per
    dimension; `train` is the mean while learning, `valid` is scored with the averaged weights), `lr` and
    `seconds` (of training so far).
    """

    COLUMNS = ("epoch", "step", "train", "valid", "lr", "seconds")
    interrupted = False  # whether Ctrl-C ended the run

    def _cells(self) -> Iterator[list[str]]:
        for row in self:
            yield [
                f"{row['epoch']}",
                f"{row['step']}",
                f"{row['train']:.3f}",
                f"{row['valid']:.3f}",
                f"{row['lr']:.1e}",
                f"{row['seconds']:.0f}",
            ]

    def __repr__(self) -> str:
        return "\n".join("".join(f"{cell:>9}" for cell in row) for row in (self.COLUMNS, *self._cells()))

    def _repr_html_(self) -> str:
        lines = ["".join(f"<th>{name}</th>" for name in self.COLUMNS)]
        lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in self._cells()]
        return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


class _Likelihood(nn.Module):
    """The loss as a `forward`, which is what Accelerate wraps: nats per value, averaged over the batch."""

    def __init__(self, model: AutoregressiveModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        return -self.model.log_prob(x, label).sum() / x.numel()


def _name_of(augment: Callable | None) -> str | None:
    """What a checkpoint's settings call an augmentation: its name and the arguments that are fixed."""
    if augment is None:
        return None
    if isinstance(augment, functools.partial):
        fixed = [*map(repr, augment.args), *(f"{name}={value!r}" for name, value in augment.keywords.items())]
        return f"{_name_of(augment.func)}({', '.join(fixed)})"
    return getattr(augment, "__qualname__", type(augment).__qualname__)


def _augmented(x: Tensor, augment: Callable[[Tensor], Tensor], levels: int) -> Tensor:
    """Changes a batch of training images, and refuses what can no longer be scored as images of this kind."""
    changed = augment(x)
    if not isinstance(changed, Tensor) or changed.shape != x.shape or changed.dtype != x.dtype:
        kind = type(changed).__name__
        given = f"{changed.dtype} {tuple(changed.shape)}" if isinstance(changed, Tensor) else kind
        raise ValueError(
            f"augment made {given} of {x.dtype} {tuple(x.shape)}: it must return images of the same type and shape."
        )
    if int(changed.min()) < 0 or int(changed.max()) >= levels:
        raise ValueError(
            f"augment made values from {int(changed.min())} to {int(changed.max())}: "
            f"they must stay levels, integers from 0 to {levels - 1}."
        )
    return changed.to(x.device)


def _moving_average(decay: float):
    """An exponential moving average that forgets its start: early on it averages the last tenth."""

    def update(averages: list[Tensor], weights: list[Tensor], count: Tensor) -> None:
        rate = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averages, weights, rate)

    return update


def schedule(progress: float, warmup: float = 0.02) -> float:
    """Gives the learning rate's factor: up in a straight line, then down along a cosine to 0.

    Arguments:
        progress: share of the training that is over, in [0, 1].
        warmup: share of the training during which the rate rises.

    Returns:
        factor in [0, 1].

    References:
        Loshchilov, Hutter 2017, equation 5, without restarts.

    Example:
        >>> schedule(0.02), round(schedule(0.51), 3), schedule(1.0)
        (1.0, 0.5, 0.0)
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C into a flag, so that a step is never cut in half; the second one acts."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number, frame):
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


# -- the run ------------------------------------------------------------------------------------------


class _Run:
    """The state of a training run, and how it is written to and read from a file."""

    def __init__(self, model: AutoregressiveModel, ema: float, lr: float, weight_decay: float, settings: dict):
        self.model = model
        self.average = AveragedModel(model, multi_avg_fn=_moving_average(ema))
        # Fused where it exists: one pass over the weights instead of one per arithmetic operation.
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=lr, weight_decay=weight_decay, betas=(0.9, 0.999), fused=True
        )
        self.settings = settings
        self.history = History()
        self.best_weights: dict[str, Tensor] = {}
        self.best = math.inf
        self.epoch = self.batch = self.step = 0
        self.seconds = 0.0
        self.nats, self.values = 0.0, 0  # summed since the epoch began

    def keep_if_best(self, valid: float) -> bool:
        if not valid < self.best:
            return False
        self.best = valid
        self.best_weights = {name: value.detach().clone() for name, value in self.average.module.state_dict().items()}
        return True

    def save(self, folder: Path, scaler: torch.amp.GradScaler | None) -> None:
        tensors = {"random.cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        for part, state in (
            ("model", self.model.state_dict()),
            ("average", self.average.state_dict()),
            ("best", self.best_weights),
        ):
            tensors |= {f"{part}.{name}": value for name, value in state.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        numbers = {
            "settings": self.settings,
            "history": self.history,
            "best": self.best if math.isfinite(self.best) else None,
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "seconds": self.seconds,
            "nats": self.nats,
            "values": self.values,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        # Copies, because averaged and best weights may share memory, which the format refuses.
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        write_atomically(folder / "last.safetensors", save(tensors, {"run": json.dumps(numbers)}))

    def load(self, path: Path, scaler: torch.amp.GradScaler | None) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                numbers = json.loads(file.metadata()["run"])
                numbers["settings"].items()
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a whole checkpoint ({error!r}): start without resume.") from None
        for name, value in self.settings.items():
            if numbers["settings"].get(name) != value:
                raise ValueError(
                    f"{path} was trained with {name}={numbers['settings'].get(name)!r}, now {name}={value!r} is "
                    "asked for: resume with the same settings, or train into another folder."
                )
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        self.model.load_state_dict(parts["model"])
        self.average.load_state_dict(parts["average"])
        self.best_weights = parts.get("best", {})
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in parts.get("optimizer", {}).items():
            index, _, moment = name.partition(".")
            state.setdefault(int(index), {})[moment] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        torch.set_rng_state(parts["random"]["cpu"])
        if "cuda" in parts["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(parts["random"]["cuda"])
        if scaler is not None and numbers["scaler"]:
            scaler.load_state_dict(numbers["scaler"])
        self.history = History(numbers["history"])
        self.best = math.inf if numbers["best"] is None else numbers["best"]
        self.epoch, self.batch, self.step = numbers["epoch"], numbers["batch"], numbers["step"]
        self.seconds, self.nats, self.values = numbers["seconds"], numbers["nats"], numbers["values"]


def fit(
    model: nn.Module,
    images: Images,
    *,
    epochs: int,
    batch_size: int = 32,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    ema: float = 0.999,
    patience: int | None = None,
    seconds: float | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    compile: bool = False,
    folder: str | os.PathLike | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    progress: bool = True,
) -> History:
    """Trains a model by maximum likelihood and leaves the best averaged weights in it.

    Each step minimises the cross-entropy of the integer values (nats per value) with AdamW (Adam when
    `weight_decay` is 0). An exponential moving average of the weights is scored on the validation images
    after each epoch. With a `folder`, `last.safetensors` (to resume) and `best/` (a `from_pretrained`
    folder) are written, each at once or not at all. Ctrl-C ends the run after the current step, saved.
    Start the same program with `torchrun` to train in several processes.

    Arguments:
        model: a model of the package, or a module that maps `[N, C, H, W]` to `[N, levels, H, W]`.
        images: what `load_images` returns; `.train` and `.valid` are used, never `.test`.
        epochs: passes over the training images, at least 1.
        batch_size: images per step, over all processes.
        lr: highest learning rate; `schedule` says how it rises and falls.
        weight_decay: decoupled weight decay, 0 for none.
        clip: largest norm of the gradient; a longer one is shortened to it.
        ema: decay of the moving average per step, in [0, 1).
        patience: stop after this many epochs without a better validation score; None: never.
        seconds: stop after this much training time; the schedule then ends there.
        augment: changes each batch of training images, never validation images: takes and returns integers
            `[N, C, H, W]` of one type and shape. What it draws from PyTorch's global generators goes on in a
            resumed run as if it had not stopped. Checkpoints record its name, with the arguments of a
            `functools.partial`. Example: `ph.data.random_shift`.
        seed: of the order of images, of dropout and of `augment`.
        device: "cuda", "mps" or "cpu"; None takes the best there is.
        precision: "no" (float32), "bf16" or "fp16" for mixed precision; None: what `default_precision` says.
        compile: run the network through `torch.compile`.
        folder: where checkpoints go; None keeps none.
        resume: go on from the folder's `last.safetensors` if there is one.
        tensorboard: also log to `folder/tensorboard`; needs the package `tensorboard`.
        progress: show a progress bar.

    Returns:
        the history, one row per epoch.

    Raises:
        ValueError: for settings or images that do not fit, before anything is computed.
        FileExistsError: when the folder holds a checkpoint and `resume` is not set.
        FloatingPointError: when the loss is no longer finite; the message tells the step and what to try.

    References:
        van den Oord et al. 2016, section 5.1 (log-likelihood of discrete values).

    Example:
        >>> from pixelhelpers import PixelCNN, load_images
        >>> digits = load_images("digits")
        >>> history = fit(PixelCNN(hidden=8, blocks=1), digits, epochs=1, seconds=0.1, progress=False)
        >>> sorted(history[0])
        ['epoch', 'lr', 'seconds', 'step', 'train', 'valid']
    """
    model = _as_model_for(model, images.train, "images.train", images.levels)
    _as_model_for(model, images.valid, "images.valid")
    _check_settings(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        clip=clip,
        ema=ema,
        patience=patience,
        seconds=seconds,
        precision=precision,
    )
    device, precision = _choose_device(device, precision)
    _check_labels(model, images.train_labels, images.train, "images.train_labels")
    _check_labels(model, images.valid_labels, images.valid, "images.valid_labels")
    if augment is not None:
        with torch.random.fork_rng([]):
            _augmented(images.train[:1], augment, model.levels)  # refused before anything is written
    folder = None if folder is None else Path(folder)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "last.safetensors").exists() and not resume:
            raise FileExistsError(
                f"{folder} already holds a checkpoint: resume it (resume=True, --resume) or choose another folder."
            )
    settings = {
        "class": type(model).__name__,
        "model": {name: value for name, value in model.settings.items()},
        "data": f"{images.name}, {len(images.train)} images",
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "weight_decay": weight_decay,
        "clip": clip,
        "ema": ema,
        "seconds": seconds,
        "augment": _name_of(augment),
        "seed": seed,
        "precision": precision,
    }
    accelerator = _accelerator(device, precision, compile)
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    memory = keep_freed_memory() if device == "cpu" else nullcontext()
    with memory, torch.random.fork_rng(devices), _interrupts() as interrupted:
        torch.manual_seed(seed + accelerator.process_index)
        model.to(accelerator.device)
        run = _Run(model, ema, lr, weight_decay, settings)
        loss_of, optimizer = accelerator.prepare(_Likelihood(model), run.optimizer)
        if folder is not None and resume and (folder / "last.safetensors").exists():
            run.load(folder / "last.safetensors", accelerator.scaler)
        if folder is not None and accelerator.is_main_process:
            for part in (*folder.glob("*.part"), *folder.glob("best/*.part")):  # left by a kill while writing
                part.unlink(missing_ok=True)
        trainer = _Trainer(run, images, augment, accelerator, loss_of, optimizer, interrupted, folder)
        try:
            trainer.train(epochs, batch_size, lr, clip, patience, seconds, seed, tensorboard, progress)
        finally:
            if run.best_weights:
                model.load_state_dict(run.best_weights)
            model.eval()
    run.history.interrupted = interrupted.is_set()
    return run.history


class _Trainer:
    """The loop over epochs and batches, on whatever Accelerate found."""

    def __init__(self, run, images, augment, accelerator, loss_of, optimizer, interrupted, folder):
        self.run, self.images, self.augment, self.accelerator = run, images, augment, accelerator
        self.loss_of, self.optimizer = loss_of, optimizer
        self.interrupted, self.folder = interrupted, folder
        self.pending: list[Tensor] = []  # losses not yet read from the device

    def train(self, epochs, batch_size, lr, clip, patience, seconds, seed, tensorboard, progress) -> None:
        run = self.run
        per_epoch = math.ceil(len(self.images.train) / batch_size)
        total = epochs * per_epoch
        began = time.perf_counter() - run.seconds
        saved = time.perf_counter()
        writer = self._writer(tensorboard)
        shown = progress and self.accelerator.is_main_process
        bar = progress_bar(total, "step", shown=shown, initial=run.step)
        try:
            while run.epoch < epochs and not self._is_over(began, seconds, patience):
                self.loss_of.train()
                for x, label in self._batches(batch_size, seed):
                    if self.augment is not None:
                        x = _augmented(x, self.augment, run.model.levels)
                    self._step(x, label, lr * schedule(self._share(total, seconds)), clip)
                    bar.update()
                    if len(self.pending) >= 10:
                        self._read_losses()
                        bar.set_postfix_str(f"epoch {run.epoch + 1}, {self._train_bits():.3f} bits/dim")
                    run.seconds = time.perf_counter() - began
                    if self._stop_now(seconds):
                        break
                    if time.perf_counter() - saved > SAVE_EVERY:
                        self._save()
                        saved = time.perf_counter()
                self._read_losses()
                if self.interrupted.is_set():
                    self._save()
                    where = "nothing was saved" if self.folder is None else f"resume from {self.folder}"
                    self.accelerator.print(f"Stopped after step {run.step}, as asked; {where}.")
                    break
                self._end_epoch(lr * schedule(self._share(total, seconds)), began, writer)
                saved = time.perf_counter()
        finally:
            bar.close()
            if writer is not None:
                writer.close()

    def _share(self, total: int, seconds: float | None) -> float:
        """How much of the run is over, in [0, 1], by steps or by time, whichever is further."""
        return min(1.0, max(self.run.step / total, self.run.seconds / seconds if seconds else 0.0))

    def _batches(self, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The rest of this epoch's batches; their order depends on seed and epoch only."""
        run, device = self.run, self.accelerator.device
        order = torch.randperm(
            len(self.images.train), generator=torch.Generator().manual_seed(seed * 100_003 + run.epoch)
        )
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        sources = [self.images.train] + ([] if run.model.classes is None else [self.images.train_labels])
        for chosen in order.split(batch_size)[run.batch :]:
            mine = chosen[rank::processes]
            parts = [source[mine] for source in sources]
            if device.type == "cuda":
                parts = [part.pin_memory() for part in parts]
            parts = [part.to(device, non_blocking=True) for part in parts]
            run.batch += 1
            if len(chosen) >= processes:  # else some process would have nothing to do
                yield parts[0], parts[1] if len(parts) > 1 else None

    def _step(self, x: Tensor, label: Tensor | None, rate: float, clip: float) -> None:
        run = self.run
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.loss_of(x, label)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(run.model.parameters(), clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        run.average.update_parameters(run.model)
        run.step += 1
        self.pending.append(loss.detach() * x.numel())
        run.values += x.numel()

    def _read_losses(self) -> None:
        """Reads the last losses from the device, and stops the run when one is not finite."""
        if not self.pending:
            return
        losses = torch.stack(self.pending).cpu()
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            step = self.run.step - len(losses) + int(bad[0]) + 1
            raise FloatingPointError(
                f"the loss of step {step} is {float(losses[bad[0]])}: try a lower learning rate "
                f'(now {self.run.settings["lr"]:g}), a smaller clip, or precision="no". '
                "Checkpoints written before are whole."
            )
        self.run.nats += float(losses.double().sum())
        self.pending.clear()

    def _train_bits(self) -> float:
        return self.run.nats / max(1, self.run.values) / math.log(2)

    def _stop_now(self, seconds: float | None) -> bool:
        over = self.interrupted.is_set() or (seconds is not None and self.run.seconds >= seconds)
        if self.accelerator.num_processes == 1:
            return over
        # All processes must leave the loop at the same step.
        return bool(self.accelerator.reduce(torch.tensor(float(over), device=self.accelerator.device)))

    def _is_over(self, began: float, seconds: float | None, patience: int | None) -> bool:
        if self.interrupted.is_set() or (seconds is not None and self.run.seconds >= seconds):
            return True
        scores = [row["valid"] for row in self.run.history]
        return patience is not None and bool(scores) and len(scores) - 1 - scores.index(min(scores)) >= patience

    def _end_epoch(self, rate: float, began: float, writer) -> None:
        run = self.run
        row = {
            "epoch": run.epoch + 1,
            "step": run.step,
            "train": self._train_bits(),
            "valid": self._validate(),
            "lr": rate,
            "seconds": run.seconds,
        }
        run.history.append(row)
        run.epoch, run.batch, run.nats, run.values = run.epoch + 1, 0, 0.0, 0
        run.seconds = time.perf_counter() - began
        is_best = run.keep_if_best(row["valid"])
        if writer is not None:
            for name in ("train", "valid", "lr"):
                writer.add_scalar(name, row[name], row["step"])
        if self.accelerator.is_main_process and self.folder is not None:
            if is_best:
                run.average.module.save_pretrained(self.folder / "best")
            run.save(self.folder, self.accelerator.scaler)

    @torch.no_grad()
    def _validate(self) -> float:
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        model = self.run.average.module.eval()
        valid = self.images.valid[rank::processes]
        labels = None if self.run.model.classes is None else self.images.valid_labels[rank::processes]
        with self.accelerator.autocast():
            nats = _total_nats(model, valid, labels, 100)
        if processes > 1:
            nats = float(self.accelerator.reduce(torch.tensor(nats, device=self.accelerator.device)))
        bits = nats / (math.log(2) * self.images.valid.numel())
        if not math.isfinite(bits):
            raise FloatingPointError(
                f"the validation score after step {self.run.step} is {bits}: try a lower learning rate (now "
                f"{self.run.settings['lr']:g}) or a smaller clip. The best weights so far are kept."
            )
        return bits

    def _save(self) -> None:
        self._read_losses()
        if self.accelerator.is_main_process and self.folder is not None:
            self.run.save(self.folder, self.accelerator.scaler)

    def _writer(self, tensorboard: bool):
        if not tensorboard or not self.accelerator.is_main_process:
            return None
        if self.folder is None:
            raise ValueError("tensorboard=True needs a folder to write to: give folder=…")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ImportError("tensorboard=True needs the package tensorboard: pip install tensorboard") from None
        return SummaryWriter(self.folder / "tensorboard")


def _check_settings(*, epochs, batch_size, lr, clip, ema, patience, seconds, precision) -> None:
    for name, value, fits, expected in (
        ("epochs", epochs, epochs >= 1, "at least 1"),
        ("batch_size", batch_size, batch_size >= 1, "at least 1"),
        ("lr", lr, 0 < lr < math.inf, "a positive number"),
        ("clip", clip, clip > 0, "a positive number"),
        ("ema", ema, 0 <= ema < 1, "a number in [0, 1)"),
        ("patience", patience, patience is None or patience >= 1, "at least 1, or None"),
        ("seconds", seconds, seconds is None or seconds > 0, "a positive number, or None"),
        ("precision", precision, precision is None or precision in PRECISIONS, f"one of {PRECISIONS}"),
    ):
        if not fits:
            raise ValueError(f"{name} is {value!r}: give {expected}.")


def _choose_device(device: str | None, precision: str | None) -> tuple[str, str]:
    device = present_device(device)
    if precision is None:
        precision = default_precision(device)
    if precision == "fp16" and device == "cpu":
        raise ValueError('precision="fp16" needs a GPU: on a CPU give "bf16" or "no".')
    return device, precision


def _accelerator(device: str, precision: str, compile: bool):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    # Accelerate keeps the first choice of a process for good; a notebook may train twice, differently.
    AcceleratorState._reset_state()
    if (PartialState._shared_state.get("_cpu") or False) != (device == "cpu"):
        PartialState._reset_state()
    return Accelerator(cpu=device == "cpu", mixed_precision=precision, dynamo_backend="inductor" if compile else "no")
