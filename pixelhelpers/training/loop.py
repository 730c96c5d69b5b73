"""Training by maximum likelihood: `fit`, the `schedule` of its learning rate, and the loop over epochs and batches.

Devices, mixed precision and several processes (`torchrun`) come from Accelerate.

References:
    Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, https://arxiv.org/abs/1412.6980
    Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, equation 5,
    https://arxiv.org/abs/1608.03983
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data.images import Images, require_images
from ..errors import require
from ..hardware import accelerator as find_processes
from ..hardware import chosen_device, keep_freed_memory
from ..models.base import AutoregressiveModel
from ..progress import progress_bar
from ..scoring import check_labels, model_for, total_nats
from .checkpoint import CHECKPOINT, Run, Settings, name_of
from .history import History
from .optimizers import OPTIMIZERS, MakesOptimizer, make_optimizer

SAVE_EVERY = 300.0  # seconds between two checkpoints inside an epoch


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


def fit(
    model: nn.Module,
    images: Images,
    *,
    epochs: int,
    optimizer: str | MakesOptimizer | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    ema: float = 0.999,
    patience: int | None = None,
    seconds: float | None = None,
    scores_per_epoch: int = 1,
    augment: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    compile: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    progress: bool = True,
    on_epoch: Callable[[AutoregressiveModel, History], None] | None = None,
) -> History:
    """Trains a model by maximum likelihood and leaves the best averaged weights in it.

    Each step minimises the cross-entropy of the integer values (nats per value). Optimiser, batch size and
    learning rate are by default the model's first recipe (`model.recipes`, chosen by `benchmarks/learning.py`).
    An exponential moving average of the weights is scored on the validation images after each epoch. With a
    `folder`, `last.safetensors` (to resume) and `best/` (a `from_pretrained` folder) are written, each at once
    or not at all. Ctrl-C ends the run after the current step, saved. Start the same program with `torchrun` to
    train in several processes.

    Arguments:
        model: a model of the package, or a module that maps `[N, C, H, W]` to `[N, levels, H, W]`.
        images: what `load_images`, `Images.from_folder` or `Images.from_arrays` returns; `.train` and `.valid` are
            used, never `.test`.
        epochs: passes over the training images, at least 1.
        optimizer: "adam" (AdamW, which is Adam when `weight_decay` is 0), "muon" (for hidden kernels, beside
            Adam for the rest: `training.optimizers.MuonWithAdam`), or a function from the list of the model's
            (name, parameter) pairs to a PyTorch optimiser, such as `functools.partial(torch.optim.SGD, lr=0.1)`.
            In a network of your own, the first and the last layer in order of definition count as those that read
            and write pixels, which Muon leaves to Adam.
        batch_size: images per step, over all processes. The defaults are for CPUs; a GPU is hardly busy with them.
        lr: highest learning rate; `schedule` says how it rises and falls. It belongs to an optimiser: with None
            leave it out, and with a function, whose groups each rise to their own.
        weight_decay: decoupled weight decay, 0 for none; with a function leave it out.
        clip: largest norm of the gradient; a longer one is shortened to it.
        ema: decay of the moving average per step, in [0, 1).
        patience: stop after this many validation scores without a better one; None: never.
        seconds: stop after this much training time; the schedule then ends there.
        scores_per_epoch: how often in each epoch the weights are scored and saved and the history gets a row; at
            most once a step.
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
        on_epoch: called after each score, when it has been saved, with the model of averaged weights, in evaluation
            mode, and the history so far, to look at and not to change; in the main process only. What it draws at
            random does not change the run, and what it takes is no training time.

    Returns:
        the history, one row per epoch, or more with `scores_per_epoch`.

    Raises:
        ValueError, TypeError: for settings or images that do not fit, before anything is computed.
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
    require_images(images, getattr(model, "classes", None))
    model = model_for(model, images.train, "images.train", images.levels)
    model_for(model, images.valid, "images.valid")
    device, precision = chosen_device(device, precision)
    optimizer, batch_size, lr = _recipe(model, optimizer, batch_size, lr, weight_decay)
    settings = Settings(
        model=type(model).__name__,
        network=model.settings,
        data=f"{images.name}, {len(images.train)} images",
        epochs=epochs,
        optimizer=optimizer if isinstance(optimizer, str) else "another",
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        clip=clip,
        ema=ema,
        patience=patience,
        seconds=seconds,
        scores_per_epoch=scores_per_epoch,
        augment=name_of(augment),
        seed=seed,
        precision=precision,
    )
    steps = math.ceil(len(images.train) / batch_size)
    require(
        scores_per_epoch <= steps,
        f"scores_per_epoch is {scores_per_epoch}, and an epoch has {steps} steps of {batch_size} images: "
        "give at most one score a step.",
    )
    check_labels(model, images.train_labels, images.train, "images.train_labels")
    check_labels(model, images.valid_labels, images.valid, "images.valid_labels")
    if augment is not None:
        with torch.random.fork_rng([]):
            _augmented(images.train[:1], augment, model.levels)  # refused before anything is written
    accelerator = find_processes(device, precision, compile)
    model.to(accelerator.device)
    made = make_optimizer(model, optimizer, lr, weight_decay)
    if settings.optimizer == "another":
        settings = replace(settings, optimizer=type(made).__name__)
    run = Run(model, settings, made)
    folder = None if folder is None else Path(folder)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        require(
            not (folder / CHECKPOINT).exists() or resume,
            f"{folder} already holds a checkpoint: resume it (resume=True, --resume) or choose another folder.",
            FileExistsError,
        )
    memory = keep_freed_memory() if device == "cpu" else nullcontext()
    with (
        memory,
        torch.random.fork_rng([accelerator.device] if accelerator.device.type == "cuda" else []),
        _interrupts() as interrupted,
    ):
        torch.manual_seed(seed + accelerator.process_index)
        loss_of, optimizer = accelerator.prepare(_Likelihood(model), run.optimizer)
        if folder is not None and resume and (folder / CHECKPOINT).exists():
            run.load(folder / CHECKPOINT, accelerator.scaler)
        if folder is not None and accelerator.is_main_process:
            for part in (*folder.glob("*.part"), *folder.glob("best/*.part")):  # left by a kill while writing
                part.unlink(missing_ok=True)
        trainer = _Trainer(run, images, augment, accelerator, loss_of, optimizer, interrupted, folder, on_epoch)
        try:
            trainer.train(tensorboard, progress)
        finally:
            if run.best_weights:
                model.load_state_dict(run.best_weights)
            model.eval()
    run.history.interrupted = interrupted.is_set()
    return run.history


def _recipe(
    model: AutoregressiveModel,
    optimizer: str | MakesOptimizer | None,
    batch_size: int | None,
    lr: float | None,
    weight_decay: float,
) -> tuple[str | MakesOptimizer, int, float | None]:
    """Completes what was asked for by what was measured for the model's family."""
    default = model.recipes[0]
    if optimizer is None:
        require(
            lr is None,
            f"lr is {lr}, but the optimizer is left to the default, {default.optimizer} with a rate of {default.lr:g}: "
            'a rate belongs to an optimizer; give both, optimizer="adam", lr=0.001 or --optimizer adam --lr 0.001.',
        )
        optimizer = default.optimizer
    if isinstance(optimizer, str):
        known = {recipe.optimizer: recipe for recipe in model.recipes}
        default = known.get(optimizer, default)
        require(
            lr is not None or optimizer in known or optimizer not in OPTIMIZERS,
            f"optimizer is {optimizer!r}, for which {type(model).__name__} has no recipe: give lr, too.",
        )
        lr = known[optimizer].lr if lr is None and optimizer in known else lr
    else:
        require(lr is None, f"lr is {lr} beside a function as optimizer: set the rate in the function.")
        require(not weight_decay, f"weight_decay is {weight_decay} beside a function as optimizer: set it there.")
    return optimizer, default.batch_size if batch_size is None else batch_size, lr


class _Likelihood(nn.Module):
    """The loss as a `forward`, which is what Accelerate wraps: nats per value, averaged over the batch."""

    def __init__(self, model: AutoregressiveModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        return -self.model.log_prob(x, label).sum() / x.numel()


def _augmented(x: Tensor, augment: Callable[[Tensor], Tensor], levels: int) -> Tensor:
    """Changes a batch of training images, and refuses what can no longer be scored as images of this kind."""
    changed = augment(x)
    made, given = (
        f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        for images in (changed, x)
    )
    require(made == given, f"augment made {made} of {given}: it must return images of the same type and shape.")
    if int(changed.min()) < 0 or int(changed.max()) >= levels:
        raise ValueError(
            f"augment made values from {int(changed.min())} to {int(changed.max())}: "
            f"they must stay levels, integers from 0 to {levels - 1}."
        )
    return changed.to(x.device)


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


class _Trainer:
    """The loop over epochs and batches, on whatever Accelerate found."""

    def __init__(self, run, images, augment, accelerator, loss_of, optimizer, interrupted, folder, on_epoch):
        self.run, self.images, self.augment, self.accelerator = run, images, augment, accelerator
        self.loss_of, self.optimizer, self.interrupted = loss_of, optimizer, interrupted
        self.folder, self.on_epoch = folder, on_epoch
        self.pending: list[Tensor] = []  # losses not yet read from the device

    def train(self, tensorboard: bool, progress: bool) -> None:
        run, settings = self.run, self.run.settings
        total = settings.epochs * math.ceil(len(self.images.train) / settings.batch_size)
        self.began, saved = time.perf_counter() - run.seconds, time.perf_counter()
        bar = progress_bar(total, "step", shown=progress and self.accelerator.is_main_process, initial=run.step)
        with closing(bar), self._writer(tensorboard) as writer:
            while len(run.history) < settings.epochs * settings.scores_per_epoch and not self._is_over():
                self.loss_of.train()
                for x, label in self._batches():
                    if self.augment is not None:
                        x = _augmented(x, self.augment, run.model.levels)
                    self._step(x, label, self._factor(total))
                    bar.update()
                    if len(self.pending) >= 10:
                        self._read_losses()
                        epoch = len(run.history) // settings.scores_per_epoch + 1
                        bar.set_postfix_str(f"epoch {epoch}, {self._train_bits():.3f} bits/dim")
                    run.seconds = time.perf_counter() - self.began
                    if self._stop_now():
                        break
                    if time.perf_counter() - saved > SAVE_EVERY:
                        self._save()
                        saved = time.perf_counter()
                self._read_losses()
                if self.interrupted.is_set():
                    self._save()
                    how = f"resume from {self.folder}." if self.folder else "nothing was saved."
                    self.accelerator.print(f"Stopped after step {run.step}, as asked; {how}")
                    break
                self._end_epoch(self._factor(total), writer)
                saved = time.perf_counter()

    def _factor(self, total: int) -> float:
        """The rates' factor now, by the share of the run that is over: by steps or by time, whichever is further."""
        share = max(self.run.step / total, self.run.seconds / (self.run.settings.seconds or math.inf))
        return schedule(min(1.0, share))

    def _batches(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The batches up to the next score; their order depends on seed and epoch only."""
        run, device = self.run, self.accelerator.device
        epoch, part = divmod(len(run.history), run.settings.scores_per_epoch)
        order = torch.randperm(
            len(self.images.train), generator=torch.Generator().manual_seed(run.settings.seed * 100_003 + epoch)
        )
        batches = order.split(run.settings.batch_size)
        begin, end = (len(batches) * (part + more) // run.settings.scores_per_epoch for more in (0, 1))
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        sources = [self.images.train] + ([] if run.model.classes is None else [self.images.train_labels])
        for chosen in batches[begin:end][run.batch :]:
            parts = [source[chosen[rank::processes]] for source in sources]
            if device.type == "cuda":
                parts = [part.pin_memory() for part in parts]
            parts = [part.to(device, non_blocking=True) for part in parts]
            run.batch += 1
            if len(chosen) >= processes:  # else some process would have nothing to do
                yield parts[0], parts[1] if len(parts) > 1 else None

    def _step(self, x: Tensor, label: Tensor | None, factor: float) -> None:
        run = self.run
        for group, highest in zip(self.optimizer.param_groups, run.rates, strict=True):
            group["lr"] = highest * factor
        loss = self.loss_of(x, label)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(run.model.parameters(), run.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        run.average.update_parameters(run.model)
        run.step, run.values = run.step + 1, run.values + x.numel()
        self.pending.append(loss.detach() * x.numel())

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
                f'(now {max(self.run.rates):g}), a smaller clip, or precision="no". '
                "Checkpoints written before are whole."
            )
        self.run.nats += float(losses.double().sum())
        self.pending.clear()

    def _train_bits(self) -> float:
        return self.run.nats / max(1, self.run.values) / math.log(2)

    def _time_is_up(self) -> bool:
        return self.interrupted.is_set() or self.run.seconds >= (self.run.settings.seconds or math.inf)

    def _stop_now(self) -> bool:
        if self.accelerator.num_processes == 1:
            return self._time_is_up()
        # All processes must leave the loop at the same step.
        return bool(self.accelerator.reduce(torch.tensor(float(self._time_is_up()), device=self.accelerator.device)))

    def _is_over(self) -> bool:
        scores, patience = [row["valid"] for row in self.run.history], self.run.settings.patience
        no_better = len(scores) - 1 - scores.index(min(scores)) if scores else 0  # in a row
        return self._time_is_up() or (patience is not None and no_better >= patience)

    def _end_epoch(self, factor: float, writer) -> None:
        run = self.run
        number = len(run.history) + 1
        whole, part = divmod(number, run.settings.scores_per_epoch)
        row = {
            "epoch": number / run.settings.scores_per_epoch if part else whole,
            "step": run.step,
            "train": self._train_bits(),
            "valid": self._validate(),
            "lr": factor * max(run.rates),
            "seconds": run.seconds,
        }
        run.history.append(row)
        run.batch, run.nats, run.values = 0, 0.0, 0
        run.seconds, is_best = time.perf_counter() - self.began, run.keep_if_best(row["valid"])
        for name in ("train", "valid", "lr") if writer is not None else ():
            writer.add_scalar(name, row[name], row["step"])
        if self.accelerator.is_main_process and self.folder is not None:
            if is_best:
                run.average.module.save_pretrained(self.folder / "best")
            run.save(self.folder, self.accelerator.scaler)
        if self.accelerator.is_main_process and self.on_epoch is not None:
            paused = time.perf_counter()  # what a callback takes is no training time
            with torch.random.fork_rng([self.accelerator.device] if self.accelerator.device.type == "cuda" else []):
                self.on_epoch(run.average.module.eval(), run.history)
            self.began += time.perf_counter() - paused

    @torch.no_grad()
    def _validate(self) -> float:
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        model, valid = self.run.average.module.eval(), self.images.valid[rank::processes]
        labels = None if self.run.model.classes is None else self.images.valid_labels[rank::processes]
        with self.accelerator.autocast():
            nats = total_nats(model, valid, labels, 100)
        if processes > 1:
            nats = float(self.accelerator.reduce(torch.tensor(nats, device=self.accelerator.device)))
        bits = nats / (math.log(2) * self.images.valid.numel())
        require(
            math.isfinite(bits),
            f"the validation score after step {self.run.step} is {bits}: try a lower learning rate (now "
            f"{max(self.run.rates):g}) or a smaller clip. The best weights so far are kept.",
            FloatingPointError,
        )
        return bits

    def _save(self) -> None:
        self._read_losses()
        if self.accelerator.is_main_process and self.folder is not None:
            self.run.save(self.folder, self.accelerator.scaler)

    def _writer(self, tensorboard: bool):
        if not tensorboard or not self.accelerator.is_main_process:
            return nullcontext()
        require(self.folder is not None, "tensorboard=True needs a folder to write to: give folder=…")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ImportError("tensorboard=True needs the package tensorboard: pip install tensorboard") from None
        return SummaryWriter(self.folder / "tensorboard")
