"""Trains what records still lack, several runs at a time: what all scripts share that compare trainings.

    python benchmarks/trainings.py --jobs 2                    every comparison, two runs at a time
    python benchmarks/trainings.py ablation learning           these only

A *plan* says what a run trains, and how: a dictionary of plain values. A row of a record is a plan and what came of
it. Finished runs are kept at once, so whoever stops this and starts it again goes on with the missing ones. All runs
are in float32, each on one core, or on the GPU if there is one (PyTorch's convolutions use TF32 there).
"""

import argparse
import dataclasses
import importlib
import json
import math
import platform
import shutil
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch

import pixelhelpers as ph
from pixelhelpers.files import write_atomically

SCRIPTS = ("learning", "compare", "ablation", "plusplus", "shifted", "overfitting")
RECIPE = {"optimizer": "muon", "batch_size": 8, "precision": "no", "progress": False}  # learning.py's choice
RATES = {"muon": (0.01, 0.02, 0.04), "adam": (2e-3, 4e-3, 8e-3)}
SEEDS = (0, 1, 2)


class Study(NamedTuple):
    """What one script compares.

    Arguments:
        record: the file of the rows.
        head: what else the record says, beside its rows.
        plans: from the rows so far to all plans that are known by then, the most urgent first.
        train: from a plan's values, as keywords, to what came of it.
        checkpoints: where runs keep theirs, each in the folder `name_of` its plan; they go once its row is written.
    """

    record: Path
    head: dict
    plans: Callable[[list[dict]], list[dict]]
    train: Callable[..., dict]
    checkpoints: Path | None = None

    def read(self) -> dict:
        there = json.loads(self.record.read_text(encoding="utf-8")) if self.record.exists() else {}
        return there | self.head | {"runs": there.get("runs", [])}

    def missing(self) -> list[dict]:
        rows = self.read()["runs"]
        return [plan for plan in self.plans(rows) if not rows_of(rows, **plan)]

    def keep(self, row: dict) -> None:
        result = self.read()
        plans = self.plans(result["runs"])
        result["runs"] = sorted(
            [*result["runs"], row],
            key=lambda row: next((place for place, plan in enumerate(plans) if is_of(row, plan)), len(plans)),
        )
        write(self.record, result)


def record(script: str) -> Path:
    return Path(script).with_suffix(".json")


def name_of(plan: dict) -> str:
    return "-".join(map(str, plan.values()))


def is_of(row: dict, plan: dict) -> bool:
    return all(name in row and row[name] == value for name, value in plan.items())


def rows_of(rows: list[dict], **wanted) -> list[dict]:
    return [row for row in rows if is_of(row, wanted)]


def write(path: Path, result: dict) -> None:
    """A record with a line for each run."""
    head = json.dumps({name: value for name, value in result.items() if name != "runs"}, indent=2)[1:-1].strip()
    rows = ",\n".join("  " + json.dumps(row) for row in result["runs"])
    write_atomically(path, f'{{\n  {head}{"," if head else ""}\n  "runs": [\n{rows}\n  ]\n}}\n'.encode())


def rates_then_seeds(rows: list[dict], arms: list[dict], images: int, rates: dict = RATES) -> list[dict]:
    """Plans that choose each arm's rate with one seed and a quarter of the images, and then repeat the best one."""
    first, second = [], []
    for arm in arms:
        tried = [
            arm | {"lr": lr, "seed": SEEDS[0], "images": images // 4}
            for lr in rates[arm.get("optimizer", RECIPE["optimizer"])]
        ]
        first += tried
        found = [row for plan in tried for row in rows_of(rows, **plan)]
        if len(found) == len(tried):
            best = min(found, key=lambda row: math.inf if row["valid"] is None else row["valid"])
            second += [arm | {"lr": best["lr"], "seed": seed, "images": images} for seed in SEEDS]
    return first + second


def complete(*studies: Study, jobs: int = 1) -> None:
    """Trains what the studies lack, those of the first one first, `jobs` runs at a time."""
    running: dict[Future, tuple[Study, dict]] = {}
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        while True:
            for study in studies:
                for plan in study.missing():
                    if len(running) < jobs and (study, plan) not in running.values():
                        running[pool.submit(study.train, **plan)] = (study, plan)
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                study, plan = running.pop(future)
                row = plan | outcome(future) | {"machine": machine()}
                study.keep(row)
                if study.checkpoints is not None:
                    shutil.rmtree(study.checkpoints / name_of(plan), ignore_errors=True)
                print(study.record.stem, *plan.values(), row["valid"], flush=True)


def outcome(future: Future) -> dict:
    """What a run gave; one that diverged has no score, which is a result."""
    try:
        return future.result()
    except FloatingPointError:
        return {"valid": None}


def machine() -> str:
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "one core"
    return f"{platform.machine()}, {where}, PyTorch {torch.__version__}"


def parser(description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("--jobs", type=int, default=1, help="how many runs at a time (1)")
    return made


def few(images: ph.Images, train: int, valid: int) -> ph.Images:
    """The first images."""
    cut = {"train": train, "train_labels": train, "valid": valid, "valid_labels": valid}
    return dataclasses.replace(images, **{name: getattr(images, name)[:count] for name, count in cut.items()})


def in_epochs(images: ph.Images, count: int) -> tuple[ph.Images, int]:
    """Images and passes over them that make `count` in all."""
    epochs = math.ceil(count / len(images.train))
    return few(images, count // epochs, len(images.valid)), epochs


def live_weights(model: torch.nn.Module) -> int:
    """Counts the weights that act: masked ones do not."""
    masked = (layer for layer in model.modules() if isinstance(layer, ph.MaskedConv2d))
    shut = sum(int((~layer.mask).expand_as(layer.weight).sum()) for layer in masked)
    return sum(weight.numel() for weight in model.parameters()) - shut


def main() -> None:
    options = parser(__doc__)
    options.add_argument("scripts", nargs="*", help=f"of {', '.join(SCRIPTS)}; without one: all")
    given = options.parse_args()
    if unknown := set(given.scripts) - set(SCRIPTS):
        options.error(f"no comparison is called {', '.join(sorted(unknown))}: give some of {', '.join(SCRIPTS)}.")
    modules = [importlib.import_module(name) for name in given.scripts or SCRIPTS]
    complete(*(module.STUDY for module in modules), jobs=given.jobs)


if __name__ == "__main__":
    main()
