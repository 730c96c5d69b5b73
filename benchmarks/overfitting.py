"""What helps against overfitting: each cure against none, on 500 training images.

    python benchmarks/overfitting.py
    python benchmarks/overfitting.py --data digits --case dropout     # this one again

The images are halved to 14 x 14 pixels, so that a run takes half a minute. Every run of PixelCNN has the same
images, the same number of epochs and the same schedule; only early stopping
ends before. One strength of each cure, not tuned. Written down are both curves of `fit` (its training score is
the mean while learning, so with dropout or shifts it is that of the harder task), and the scores of the best and
of the last averaged weights on the 500 training images as they are, on 250 validation images, by which the best
are chosen, and on 500 test images, by which nothing is. Finished runs are kept in overfitting.json beside this
file: start it again and it goes on with the missing ones. Two processes, one for each `--data`, share a machine well.
"""

import argparse
import copy
import json
import platform
import statistics
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import pixelhelpers as ph

CASES = {
    "no cure": {},
    "early stopping": {"patience": 5},
    "dropout": {"dropout": 0.3},
    "weight decay": {"weight_decay": 1.0},
    "small shifts": {"augment": partial(ph.data.random_shift, most=1)},
}
DATA = ("fashion-mnist", "digits")
SEEDS = (0,)
MODEL = {"hidden": 64, "blocks": 5, "image_size": 14}
BUDGET = {"epochs": 60, "optimizer": "adam", "batch_size": 10, "lr": 4e-3, "precision": "bf16"}
COUNTS = {"train": 500, "valid": 250, "test": 500}
RESULT = Path(__file__).with_suffix(".json")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures cures against overfitting.")
    parser.add_argument("--data", choices=DATA, help="only these images")
    parser.add_argument("--case", choices=CASES, help="only this case, and again if it is already there")
    options = parser.parse_args()
    names = [options.data] if options.data else DATA
    cases = [options.case] if options.case else CASES
    for seed in SEEDS:
        for name in names:
            for case in cases:
                if options.case or not any(is_same(run, name, case, seed) for run in recorded()["runs"]):
                    run = {"data": name, "case": case, "seed": seed, **train(name, case, seed)}
                    result = recorded()  # again: another process may have added to it
                    result["runs"] = [old for old in result["runs"] if not is_same(old, name, case, seed)] + [run]
                    RESULT.write_text(json.dumps(result) + "\n", encoding="utf-8")
    print_table(recorded()["runs"])


def recorded() -> dict:
    """What is in the file, or the head of a new one if that was made with other settings."""
    setting = {"model": MODEL, "budget": BUDGET, "images": COUNTS}
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    if all(known.get(name) == value for name, value in setting.items()):
        return known
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    return setting | {"machine": machine, "device": ph.default_device().type, "runs": []}


def is_same(run: dict, name: str, case: str, seed: int) -> bool:
    return (run["data"], run["case"], run["seed"]) == (name, case, seed)


def train(name: str, case: str, seed: int) -> dict:
    images = few(ph.load_images(name, fallback=False))
    options = dict(CASES[case])
    torch.manual_seed(seed)
    model = ph.PixelCNN(**MODEL, dropout=options.pop("dropout", 0.0))
    with tempfile.TemporaryDirectory() as folder:
        history = ph.fit(model, images, **BUDGET, **options, seed=seed, folder=folder)
        state = load_file(Path(folder) / "last.safetensors")
    last = copy.deepcopy(model)
    last.load_state_dict({key: state[f"average.module.{key}"] for key in last.state_dict()})
    curves = {key: [round(row[key], 4) for row in history] for key in ("train", "valid")}
    best = curves["valid"].index(min(curves["valid"]))
    return {
        "steps": history[-1]["step"],
        "seconds": round(history[-1]["seconds"]),
        **curves,
        "best": {"epoch": best + 1, **scores(model, images)},
        "last": {"epoch": len(history), **scores(last, images)},
    }


def few(images: ph.Images) -> ph.Images:
    """The first images, each side halved: a quarter of the values to learn from, in a quarter of the time."""
    parts = {part: halved(getattr(images, part)[:count]) for part, count in COUNTS.items()}
    labels = {f"{part}_labels": getattr(images, f"{part}_labels")[:count] for part, count in COUNTS.items()}
    return replace(images, **parts, **labels)


def halved(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x.float(), 2).round().to(torch.uint8)


def scores(model: torch.nn.Module, images: ph.Images) -> dict[str, float]:
    return {part: round(ph.evaluate(model, getattr(images, part)), 4) for part in COUNTS}


def print_table(runs: list[dict]) -> None:
    """Bits per dimension, means over the seeds."""
    for name in DATA:
        print(f"\n{name:16} steps | best at  train  valid   test | last: train  valid   test")
        for case in CASES:
            same = [run for run in runs if (run["data"], run["case"]) == (name, case)]
            if same:
                columns = [
                    f"{statistics.mean(run[which][part] for run in same):7.3f}"
                    for which in ("best", "last")
                    for part in COUNTS
                ]
                epoch = statistics.mean(run["best"]["epoch"] for run in same)
                steps = statistics.mean(run["steps"] for run in same)
                print(f"{case:16}{steps:6.0f} | {epoch:8.1f}{''.join(columns[:3])} |     {''.join(columns[3:])}")


if __name__ == "__main__":
    main()
