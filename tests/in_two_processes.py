"""What `test_processes.py` starts with `torchrun`, and the runs that it compares with those of one process."""

import contextlib
import math
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from torch import nn

import pixelhelpers as ph
from pixelhelpers import files
from pixelhelpers.training import loop

generator = torch.Generator().manual_seed(0)


def some_images(count):
    return torch.randint(4, (count, 1, 6, 6), dtype=torch.uint8, generator=generator).cummax(-1)[0]


images = ph.Images(
    train=some_images(33),  # in batches of 16, of which the last has fewer images than there are processes
    valid=some_images(17),
    test=some_images(1),
    train_labels=torch.arange(33) % 2,
    valid_labels=torch.arange(17) % 2,
    test_labels=torch.arange(1),
    name="rising",
    levels=4,
    classes=("even", "odd"),
)


class WithSpare(ph.PixelCNN):
    """Has a layer that takes no part in the loss."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.spare = nn.Linear(3, 3)


def small(kind=WithSpare, seed=0, **settings):
    torch.manual_seed(seed)
    return kind(levels=4, hidden=8, blocks=1, image_size=6, **settings)


def fit(model, epochs=7, **keywords):
    how = {"batch_size": 16, "precision": "no", "device": "cpu", "progress": False}
    how |= {} if "optimizer" in keywords else {"optimizer": "adam", "lr": 0.01}
    return ph.fit(model, images, **{"epochs": epochs, **how, **keywords})


def outcome(model, history):
    return {"weights": nn.utils.parameters_to_vector(model.parameters()).detach(), "history": list(history)}


def trained(model, **keywords):
    return outcome(model, fit(model, **keywords))


RUNS = {
    "float64": lambda seed: (model := small(seed=seed).double(), trained(model)),
    "float32": lambda seed: (model := small(seed=seed), trained(model)),
    "classes": lambda seed: (model := small(ph.GatedPixelCNN, seed, classes=2).double(), trained(model, epochs=2)),
    "muon": lambda seed: (model := small(seed=seed), trained(model, optimizer="muon")),
}
DRAWN = {
    "eight": {"count": 8, "seed": 3},
    "one": {"count": 1, "seed": 3},
    "watched": {"count": 3, "seed": 3, "on_step": lambda *_: None},
    "completed": {"count": 8, "seed": 4, "given": images.train[:8], "known": torch.arange(36).view(6, 6) < 15},
    "labelled": {"count": 5, "seed": 5, "label": torch.arange(5) % 2},
}


def sampled(name, model):
    return ph.sample(model, **DRAWN[name], progress=False)


def on_step(number, model, action):
    """Acts when this step of the training begins: after one pass by which `fit` looks for gradients."""
    passes = []

    def hook(module, inputs):
        passes.append(module.training)
        if module.training and sum(passes) == number + 1:
            action()

    return model.register_forward_pre_hook(hook)


def refused(action):
    """The error of an action, in a line."""
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


class Clock:
    """Goes so many seconds whenever somebody looks."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def perf_counter(self):
        self.now += self.step
        return self.now


def interrupt():
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)  # torchrun passes it on to who may have had it already


def work(rank):
    """All that is asked of two processes in one start."""
    found = {}
    for name, run in RUNS.items():  # each with weights of its own: those of the main process are to be taken
        model, found[name] = run(seed=rank)
        if name == "float64":
            for drawn in ("eight", "one", "watched", "completed"):
                found[drawn] = sampled(drawn, model)
            found["score"] = [ph.evaluate(model, images.valid[:count], batch_size=3) for count in (1, 17)]
            wrapped = torch.nn.parallel.DistributedDataParallel(model)
            ph.check_causal(wrapped)
            found["wrapped"] = sampled("eight", wrapped), ph.evaluate(wrapped, images.valid[:17], batch_size=3)
        if name == "classes":
            found["labelled"] = sampled("labelled", model)
            found["unseeded"] = ph.sample(model, 2, label=1, progress=False)
    found["batch"] = refused(lambda: fit(small(), batch_size=1, folder="refused"))
    found["seed"] = refused(lambda: ph.sample(small(), 2, seed=rank, progress=False))
    found["model"] = refused(lambda: ph.evaluate(small(seed=rank), images.valid))
    found["settings"] = refused(lambda: fit(small(), clip=1.0 + rank, folder="refused"))

    with files.held(Path("taken")) if rank == 0 else contextlib.nullcontext():
        ph.processes.launched().sum(torch.zeros(()))  # not before it is held
        found["taken"] = refused(lambda: fit(small(), folder="taken"))

    spoiled = small()
    on_step(9, spoiled, lambda: rank == 1 and spoiled.stem.weight.data.fill_(math.nan))
    found["not finite"] = refused(lambda: fit(spoiled))

    found["whole"] = trained(small(dropout=0.4))
    for number in (0, 1):
        model = small(dropout=0.4)
        hook = on_step(4, model, lambda number=number: rank == number and interrupt())
        history = fit(model, folder=f"halted {number}")
        found[f"halted {number}"] = history.interrupted, len(history)
        hook.remove()
    found["resumed"] = trained(model, folder="halted 1", resume=True)
    model = small().double()
    on_step(4, model, lambda: rank == 1 and interrupt())
    fit(model, folder="for one")

    def look(model, history):
        ph.sample(model, 3, progress=False)
        ph.evaluate(model, images.valid)
        if len(history) == 2:
            raise LookupError("seen enough")

    found["on_epoch"] = refused(lambda: fit(small(), folder="looked at", on_epoch=look))
    loop.time = Clock(0.01 if rank == 0 else 0.5)
    found["seconds"] = trained(small(), epochs=1000, seconds=2)
    loop.time = time
    found["patience"] = trained(small(), epochs=1000, lr=0.1, patience=1)

    ph.processes.LONGEST_WAIT = timedelta(seconds=1)
    found["late"] = refused(lambda: ph.evaluate(model, images.valid)) if rank == 0 else None
    torch.save(found, f"{rank}.pt")


def train_long(rank, kill_at):
    """A run that somebody has to end."""
    loop.SAVE_EVERY = 0.0  # after every step
    model = small(dropout=0.4)
    if kill_at:
        on_step(kill_at, model, lambda: rank == 1 and os.kill(os.getpid(), signal.SIGKILL))
    history = fit(model, epochs=10_000, folder="long", resume=True)
    print(f"process {rank} was interrupted: {history.interrupted}", flush=True)


if __name__ == "__main__":
    rank = ph.processes.launched().rank
    work(rank) if len(sys.argv) == 1 else train_long(rank, int(sys.argv[1]))
