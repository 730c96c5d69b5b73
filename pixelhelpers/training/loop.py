"""Training by maximum likelihood: `fit`, the `schedule` of its learning rate, and the loop over epochs and batches.

Devices, mixed precision and several processes (`torchrun`) come from Accelerate.

References:
    Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, https://arxiv.org/abs/1412.6980
    Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, equation 5,
    https://arxiv.org/abs/1608.03983
"""

import copy
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..arguments import shown
from ..data.images import Images, require_images
from ..errors import require
from ..files import held
from ..hardware import accelerator as find_accelerator
from ..hardware import chosen_device, keep_freed_memory
from ..models.base import AutoregressiveModel
from ..models.own import OwnModule, model_for
from ..processes import Processes, alone, together
from ..progress import finish, progress_bar
from ..scoring import check_labels, total_nats
from .checkpoint import CHECKPOINT, LARGEST_SEED, Run, Settings, name_of, random_state
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


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Refuses a second training in another thread: PyTorch's random state and Accelerate's belong to the process."""
    require(
        _trains.acquire(blocking=False),
        "fit is at work in another thread, and both would draw from one random state: train one after the other, or "
        "in processes of their own.",
        RuntimeError,
    )
    try:
        yield
    finally:
        _trains.release()


_trains = threading.RLock()  # whoever trains in `on_epoch` does so in the same thread


@_one_at_a_time()
@torch.inference_mode(False)
@torch.enable_grad()
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
    train in several processes: they share each batch, take the same steps as one, and end together.

    Arguments:
        model: a model of the package, or a module of your own as `as_model` takes it. What it was trained on (size,
            channels, levels, classes) is noted on the module, for `sample` and the probes.
        images: what `load_images`, `Images.from_folder` or `Images.from_arrays` returns; `.train` and `.valid` are
            used, never `.test`.
        epochs: passes over the training images, at least 1.
        optimizer: "adam" (AdamW, which is Adam when `weight_decay` is 0), "muon" (for hidden kernels, beside
            Adam for the rest: `training.optimizers.MuonWithAdam`), or a function from the list of the model's
            (name, parameter) pairs to a PyTorch optimiser, such as `functools.partial(torch.optim.SGD, lr=0.1)`.
            In a network of your own, the first and the last layer in order of definition count as those that read
            and write pixels, which Muon leaves to Adam.
        batch_size: images per step, over all processes, at least one for each. The defaults are for CPUs; a GPU is
            hardly busy with them.
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
        seed: of the order of images, of dropout and of `augment`, from 0. Other threads that draw from PyTorch's
            global generators meanwhile change what it gives.
        device: "cuda", "mps" or "cpu"; None takes the best there is.
        precision: "no" (float32), "bf16" or "fp16" for mixed precision; None: what `default_precision` says.
        compile: run the network through `torch.compile`.
        folder: where checkpoints go; None keeps none.
        resume: go on from the folder's `last.safetensors` if there is one. In another number of processes the
            batches are the same; dropout and `augment` then draw anew.
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
        RuntimeError: when another thread trains, or when the main process could not go on.

    References:
        van den Oord et al. 2016, section 5.1 (log-likelihood of discrete values).

    Example:
        >>> from pixelhelpers import PixelCNN, load_images
        >>> digits = load_images("digits")
        >>> history = fit(PixelCNN(hidden=8, blocks=1), digits, epochs=1, seconds=0.1, progress=False)
        >>> sorted(history[0])
        ['epoch', 'lr', 'seconds', 'step', 'train', 'valid']
    """
    for name, given in (("compile", compile), ("resume", resume), ("tensorboard", tensorboard), ("progress", progress)):
        require(isinstance(given, bool), f"{name} is {shown(given)}: give True or False.")
    for name, given in (("augment", augment), ("on_epoch", on_epoch)):
        require(given is None or callable(given), f"{name} is {shown(given)}: give a function, or None.", TypeError)
    require(
        folder is None or isinstance(folder, str | Path), f"folder is {shown(folder)}: give a path, or None.", TypeError
    )
    require(folder is None or bool(str(folder).strip()), f"folder is {folder!r}: give the run's folder a name.")
    require(folder is not None or not resume, "resume is True, but no folder is given: say where the run is.")
    require_images(images, getattr(model, "classes", None))
    model = model_for(model, images.train, "images.train", classes=len(images.classes or ()))
    model_for(model, images.valid, "images.valid")
    _check_learns(model)
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
    steps = math.ceil(len(images.train) / settings.batch_size)
    require(
        settings.scores_per_epoch <= steps,
        f"scores_per_epoch is {settings.scores_per_epoch}, and an epoch has {steps} steps of {settings.batch_size} "
        "images: give at most one score a step.",
    )
    check_labels(model, images.train_labels, images.train, "images.train_labels")
    check_labels(model, images.valid_labels, images.valid, "images.valid_labels")
    if augment is not None:
        with torch.random.fork_rng([]):
            _augmented(images.train[:1], augment, model.levels)  # refused before anything is written
    folder = None if folder is None else Path(folder)
    accelerator = find_accelerator(device, precision, compile)
    processes = together("fit", settings=settings, train=images.train, valid=images.valid)
    require(
        settings.batch_size >= processes.count,
        f"batch_size is {settings.batch_size} for {processes.count} processes, which share each batch: give at least "
        f"{processes.count}.",
    )
    if isinstance(model, OwnModule):
        model.note(tuple(images.train.shape[-2:]))
    model.to(accelerator.device)
    made = make_optimizer(model, optimizer, settings.lr, settings.weight_decay)
    if settings.optimizer == "another":
        settings = replace(settings, optimizer=type(made).__name__)
    memory = keep_freed_memory() if device == "cpu" else nullcontext()
    with (
        memory,
        nullcontext() if folder is None else _held(folder, processes),
        torch.random.fork_rng([accelerator.device] if accelerator.device.type == "cuda" else []),
        _interrupts(passed_on=processes.count > 1) as interrupted,
    ):
        if folder is not None:
            require(
                not (folder / CHECKPOINT).exists() or resume,
                f"{folder} already holds a checkpoint: resume it (resume=True, --resume) or choose another folder.",
                FileExistsError,
            )
            together("fit", checkpoint=(folder / CHECKPOINT).exists())
        torch.manual_seed((settings.seed + processes.rank) % LARGEST_SEED)
        accelerator.ddp_handler = _gradients_to_wait_for(model, images, processes)
        loss_of, optimizer = accelerator.prepare(_Nats(model), made)  # all begin with the main process's weights
        run = Run(model, settings, made)
        if folder is not None:
            if accelerator.is_main_process:
                run.clear(folder)
            if (folder / CHECKPOINT).exists():
                run.load(folder / CHECKPOINT, accelerator.scaler, processes)
        trainer = _Trainer(
            run, images, augment, accelerator, processes, loss_of, optimizer, interrupted, folder, on_epoch
        )
        try:
            trainer.train(tensorboard, progress)
        finally:
            if run.best_weights:
                model.load_state_dict(run.best_weights)
            model.eval()
    run.history.interrupted = trainer.stopped
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
            f'a rate belongs to an optimizer; give both, optimizer="adam", lr={lr} or --optimizer adam --lr {lr}.',
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


@contextmanager
def _held(folder: Path, processes: Processes) -> Iterator[None]:
    """Holds the run's folder for all processes; when the main one cannot have it, none goes on."""
    with ExitStack() as stack:
        refused = None
        if processes.rank == 0:
            try:
                stack.enter_context(held(folder))
            except OSError as error:
                refused = error
        if processes.sum(torch.tensor(float(refused is not None))):
            raise refused or BlockingIOError(f"the main process cannot have {folder}: it says why.")
        yield


class _Nats(nn.Module):
    """The loss as a `forward`, which is what Accelerate wraps: nats, summed over the images."""

    def __init__(self, model: AutoregressiveModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        return -self.model.log_prob(x, label).sum()


def _gradients_to_wait_for(model: AutoregressiveModel, images: Images, processes: Processes):
    """Says what processes need to know of each other's gradients: whether all parameters have one.

    To look for those without costs a part of every step, so a copy tries it once.
    """
    from accelerate import DistributedDataParallelKwargs

    if processes.count == 1:
        return None
    warnings.filterwarnings("ignore", "Grad strides do not match", UserWarning)  # of 1x1 kernels: no error, it says
    trial = copy.deepcopy(model).train()
    x = images.train[:1].to(next(model.parameters()).device)
    trial.log_prob(x, None if model.classes is None else images.train_labels[:1]).sum().backward()
    unused = any(weight.requires_grad and weight.grad is None for weight in trial.parameters())
    return DistributedDataParallelKwargs(find_unused_parameters=unused)


def _check_learns(model: AutoregressiveModel) -> None:
    """Refuses a model of which nothing can be trained."""
    weights = list(model.parameters())
    require(
        any(weight.requires_grad for weight in weights),
        "no parameter of the model can learn: unfreeze some by model.requires_grad_(True).",
    )
    require(
        not any(weight.is_inference() for weight in weights),
        "the model was made under torch.inference_mode, so its weights cannot learn: make it outside.",
    )


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
def _interrupts(passed_on: bool) -> Iterator[threading.Event]:
    """Turns the first Ctrl-C into a flag, so that a step is never cut in half; the second one acts.

    Among several processes it does not: `torchrun` passes a Ctrl-C on to processes that may have had it already.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number, frame):
        asked.set()
        if not passed_on:
            signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


class _Trainer:
    """The loop over epochs and batches, on whatever Accelerate found."""

    def __init__(self, run, images, augment, accelerator, processes, loss_of, optimizer, interrupted, folder, on_epoch):
        self.run, self.images, self.augment, self.accelerator = run, images, augment, accelerator
        self.processes, self.loss_of, self.optimizer, self.interrupted = processes, loss_of, optimizer, interrupted
        self.folder, self.on_epoch = folder, on_epoch
        self.pending: list[Tensor] = []  # this process's nats of steps, not yet read from the device
        self.stopped = False  # whether some process was interrupted

    def train(self, tensorboard: bool, progress: bool) -> None:
        run, settings = self.run, self.run.settings
        total = settings.epochs * math.ceil(len(self.images.train) / settings.batch_size)
        self.began, saved = time.perf_counter() - run.seconds, run.seconds
        bar = progress_bar(total, "step", shown=progress and self.processes.rank == 0, initial=run.step)
        with closing(bar), self._writer(tensorboard) as writer:
            while len(run.history) < settings.epochs * settings.scores_per_epoch and not self._is_over():
                self.loss_of.train()
                for x, label, images in self._batches():
                    if self.augment is not None:
                        x = _augmented(x, self.augment, run.model.levels)
                    self._step(x, label, images, self._factor(total))
                    bar.update()
                    if len(self.pending) >= 10:
                        self._read_losses()
                        epoch = len(run.history) // settings.scores_per_epoch + 1
                        bar.set_postfix_str(f"epoch {epoch}, {self._train_bits():.3f} bits/dim")
                    self._meet()
                    if self._time_is_up():
                        break
                    if run.seconds - saved > SAVE_EVERY:
                        self._save()
                        saved = run.seconds
                self._read_losses()
                if self.stopped:
                    self._save()
                    break
                self._end_epoch(self._factor(total), writer)
                saved = run.seconds
            if not self.stopped or len(run.history) == settings.epochs * settings.scores_per_epoch:
                self.stopped = False  # whoever said so came too late
                finish(bar)
                return
        how = f"resume from {self.folder}." if self.folder else "nothing was saved."
        self.accelerator.print(f"Stopped after step {run.step}, as asked; {how}")

    def _meet(self) -> None:
        """Agrees with the other processes on the time, which is the main one's, and on whether somebody says stop."""
        seconds = time.perf_counter() - self.began
        told = self.processes.all(torch.tensor([seconds, self.interrupted.is_set()], dtype=torch.float64))
        self.run.seconds, self.stopped = float(told[0, 0]), bool(told[:, 1].any())

    def _factor(self, total: int) -> float:
        """The rates' factor now, by the share of the run that is over: by steps or by time, whichever is further."""
        share = max(self.run.step / total, self.run.seconds / (self.run.settings.seconds or math.inf))
        return schedule(min(1.0, share))

    def _batches(self) -> Iterator[tuple[Tensor, Tensor | None, int]]:
        """This process's parts of the batches up to the next score, each with the number of images of the whole.

        Their order depends on seed and epoch only. Of a batch with fewer images than there are processes, some get
        its first, and `_step` does not count it.
        """
        run, device = self.run, self.accelerator.device
        epoch, part = divmod(len(run.history), run.settings.scores_per_epoch)
        order = torch.randperm(
            len(self.images.train),
            generator=torch.Generator().manual_seed((run.settings.seed * 100_003 + epoch) % LARGEST_SEED),
        )
        batches = order.split(run.settings.batch_size)
        begin, end = (len(batches) * (part + more) // run.settings.scores_per_epoch for more in (0, 1))
        rank, processes = self.processes
        sources = [self.images.train] + ([] if run.model.classes is None else [self.images.train_labels])
        for chosen in batches[begin:end][run.batch :]:
            mine = chosen[rank::processes] if rank < len(chosen) else chosen[:1]
            parts = [source[mine] for source in sources]
            if device.type == "cuda":
                parts = [part.pin_memory() for part in parts]
            parts = [part.to(device, non_blocking=True) for part in parts]
            run.batch += 1
            yield parts[0], parts[1] if len(parts) > 1 else None, len(chosen)

    def _step(self, x: Tensor, label: Tensor | None, images: int, factor: float) -> None:
        run, values = self.run, images * x[0].numel()  # of the whole batch
        for group, highest in zip(self.optimizer.param_groups, run.rates, strict=True):
            group["lr"] = highest * factor
        try:
            nats = self.loss_of(x, label)
        except RuntimeError as error:
            require(
                "finished reduction" not in str(error),
                "a layer takes part in the loss of some steps and not of others, which several processes cannot "
                "train: let it take part always, for instance multiplied by 0.",
                RuntimeError,
            )
            raise
        require(nats.requires_grad, "the loss depends on no parameter that can learn: does forward detach something?")
        if self.processes.rank >= images:
            nats = 0 * nats
        self.accelerator.backward(nats / (values / self.processes.count))  # the mean over processes is what counts
        self.accelerator.clip_grad_norm_(run.model.parameters(), run.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        run.average.update_parameters(run.model)
        run.step, run.values = run.step + 1, run.values + values
        self.pending.append(nats.detach())

    def _read_losses(self) -> None:
        """Reads the last losses of all processes from the devices, and stops the run when one is not finite."""
        if not self.pending:
            return
        losses = self.processes.sum(torch.stack(self.pending).cpu().double())
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            step = self.run.step - len(losses) + int(bad[0]) + 1
            raise FloatingPointError(
                f"the loss of step {step} is {float(losses[bad[0]])}: try a lower learning rate "
                f'(now {max(self.run.rates):g}), a smaller clip, or precision="no". '
                "Checkpoints written before are whole."
            )
        self.run.nats += float(losses.sum())
        self.pending.clear()

    def _train_bits(self) -> float:
        return self.run.nats / max(1, self.run.values) / math.log(2)

    def _time_is_up(self) -> bool:
        return self.stopped or self.run.seconds >= (self.run.settings.seconds or math.inf)

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
        is_best = run.keep_if_best(row["valid"])
        self._meet()
        for name in ("train", "valid", "lr") if writer is not None else ():
            writer.add_scalar(name, row[name], row["step"])
        self._save(is_best)
        if self.on_epoch is not None:
            with self._main_process() as is_main:
                if is_main:
                    self._call_on_epoch()

    def _call_on_epoch(self) -> None:
        paused = time.perf_counter()  # what a callback takes is no training time
        devices = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(devices), alone():
            self.on_epoch(self.run.average.module.eval(), self.run.history)
        self.began += time.perf_counter() - paused

    @contextmanager
    def _main_process(self) -> Iterator[bool]:
        """Says whether this is the main process, which does something for all, and ends all when it could not."""
        failed = torch.ones(())
        try:
            yield self.processes.rank == 0
            failed.zero_()
        finally:
            others_failed = bool(self.processes.sum(failed))
        require(not others_failed, "the main process could not go on, so this one ends, too.", RuntimeError)

    @torch.no_grad()
    def _validate(self) -> float:
        model, valid, labels = self.run.average.module.eval(), self.images.valid, self.images.valid_labels
        with self.accelerator.autocast():
            nats = total_nats(model, valid, labels, 100, self.processes)
        bits = nats / (math.log(2) * self.images.valid.numel())
        require(
            math.isfinite(bits),
            f"the validation score after step {self.run.step} is {bits}: try a lower learning rate (now "
            f"{max(self.run.rates):g}) or a smaller clip. The best weights so far are kept.",
            FloatingPointError,
        )
        return bits

    def _save(self, is_best: bool = False) -> None:
        """Writes the run into its folder, and before it the best weights, if these are they."""
        self._read_losses()
        if self.folder is None:
            return
        random = random_state(self.processes)
        with self._main_process() as is_main:
            if is_main:
                if is_best:
                    self.run.average.module.save_pretrained(self.folder / "best")
                self.run.save(self.folder, self.accelerator.scaler, random)

    def _writer(self, tensorboard: bool):
        if not tensorboard or self.processes.rank != 0:
            return nullcontext()
        require(self.folder is not None, "tensorboard=True needs a folder to write to: give folder=…")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ImportError("tensorboard=True needs the package tensorboard: pip install tensorboard") from None
        return SummaryWriter(self.folder / "tensorboard")
