"""What helps against overfitting: each cure against none, on 500 training images.

    python benchmarks/overfitting.py --jobs 2     what overfitting.json beside this file still lacks; then a table

The images are halved to 14 x 14 pixels, so that a run takes a minute or two. Every run of PixelCNN has the same
images, the same number of epochs and the same schedule; only early stopping ends before. One strength of each cure,
not tuned; three seeds. Written down are both curves of `fit` (its training
score is the mean while learning, so with dropout or shifts it is that of the harder task), and the scores of the best
and of the last averaged weights on the 500 training images as they are, on 250 validation images, by which the best
are chosen, and on 500 test images, by which nothing is.
"""

import copy
import statistics
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import trainings
from safetensors.torch import load_file
from torch.nn import functional as F

import pixelhelpers as ph

CASES = {
    "no cure": {},
    "early stopping": {"patience": 5},
    "dropout": {"dropout": 0.3},
    "weight decay": {"weight_decay": 0.2},
    "small shifts": {"augment": partial(ph.data.random_shift, most=1)},
}
DATA = ("fashion-mnist", "digits")
MODEL = {"hidden": 64, "blocks": 5, "image_size": 14}
BUDGET = {"epochs": 60, "lr": 0.02}
COUNTS = {"train": 500, "valid": 250, "test": 500}


def train(data: str, case: str, seed: int) -> dict:
    images = few(ph.load_images(data, fallback=False))
    options = dict(CASES[case])
    torch.manual_seed(seed)
    model = ph.PixelCNN(**MODEL, dropout=options.pop("dropout", 0.0))
    with tempfile.TemporaryDirectory() as folder:
        history = ph.fit(model, images, **BUDGET, **options, seed=seed, folder=folder, **trainings.RECIPE)
        state = load_file(Path(folder) / "last.safetensors")
    last = copy.deepcopy(model)
    last.load_state_dict({key: state[f"average.module.{key}"] for key in last.state_dict()})
    curves = {key: [round(row[key], 4) for row in history] for key in ("train", "valid")}
    best = curves["valid"].index(min(curves["valid"]))
    return {
        "valid": curves["valid"][-1],
        "steps": history[-1]["step"],
        "curves": curves,
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


def plans(rows: list[dict]) -> list[dict]:
    return [{"data": data, "case": case, "seed": seed} for seed in trainings.SEEDS for data in DATA for case in CASES]


STUDY = trainings.Study(
    trainings.record(__file__),
    {"model": MODEL, "recipe": trainings.RECIPE | BUDGET, "images": COUNTS},
    plans,
    train,
)


def print_table(rows: list[dict]) -> None:
    """Bits per dimension, means over the seeds."""
    for name in DATA:
        print(f"\n{name:16} steps | best at  train  valid   test | last: train  valid   test")
        for case in CASES:
            same = [run for run in rows if (run["data"], run["case"]) == (name, case)]
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
    trainings.complete(STUDY, jobs=trainings.parser(__doc__).parse_args().jobs)
    print_table(STUDY.read()["runs"])
