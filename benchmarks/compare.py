"""The five models side by side: what equal arithmetic in training buys, and what an image then costs.

    python benchmarks/compare.py             what compare.json beside this file still lacks, then all timings
    python benchmarks/compare.py --jobs 2    two trainings at a time
    python benchmarks/compare.py --train     training only
    python benchmarks/compare.py --time      timings, figure and table only

Each model, without classes and at the size of its shipped weights, learns Fashion-MNIST with the recipe that
learning.py chose for all of them, from three seeds. Each takes as many images as its multiply-adds allow, when PixelCNN
takes 40,000. It is scored on the 5,000 validation images. Until then checkpoints are in runs/compare: start it again
and it goes on where it stopped. Then
all models take turns: a training step with 16 images, one forward pass over 64 images, and drawing 64 images
by their fastest exact method. (What the plain loop takes for them is that pass times the number of its
turns.) Seconds mean something only beside each other, from one run on an idle machine. Also writes
compare.png and the table in README.md beside this file.
"""

import functools
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import torch
import trainings
from recipe import multiply_adds
from sampling import ROUNDS, into_readme, peak_memory, seconds

import pixelhelpers as ph

FILE = Path(__file__)
FOLDER = FILE.parents[1] / "runs" / "compare"
IMAGES, LR = 40_000, 0.02
STEP, DRAWN = 16, 64  # images of a step that is timed, images drawn
MODELS = {
    "pixelcnn": (ph.PixelCNN, {"hidden": 128, "blocks": 7}),
    "gated": (ph.GatedPixelCNN, {"hidden": 80, "blocks": 6}),
    "plusplus": (ph.PixelCNNPlusPlus, {"hidden": 48, "blocks": 1}),
    "multiscale": (ph.MultiscalePixelCNN, {"hidden": 72, "blocks": 4}),
    "attention": (ph.PixelSNAIL, {"hidden": 64, "blocks": 2}),
}


def build(name: str, seed: int = 0) -> ph.models.base.AutoregressiveModel:
    kind, size = MODELS[name]
    torch.manual_seed(seed)
    return kind(**size)


@functools.cache
def affordable(name: str) -> int:
    """For how many images the multiply-adds suffice that `IMAGES` images cost PixelCNN."""
    x = torch.zeros(1, 1, 28, 28)
    return IMAGES * multiply_adds(build("pixelcnn"), x) // multiply_adds(build(name), x)


def train(model: str, seed: int, images: int) -> dict:
    """Trains one model, or goes on with it."""
    seen, epochs = trainings.in_epochs(ph.load_images("fashion-mnist", fallback=False), images)
    folder = FOLDER / trainings.name_of({"model": model, "seed": seed, "images": images})
    how = {"epochs": epochs, "lr": LR, "seed": seed, "folder": folder, "resume": True}
    history = ph.fit(build(model, seed), seen, **how, **trainings.RECIPE)
    if history.interrupted:
        raise KeyboardInterrupt
    return {"valid": history[-1]["valid"]}


def plans(rows: list[dict]) -> list[dict]:
    images = {name: affordable(name) for name in MODELS}
    return [{"model": name, "seed": seed, "images": images[name]} for seed in trainings.SEEDS for name in MODELS]


STUDY = trainings.Study(
    trainings.record(__file__), {"recipe": trainings.RECIPE | {"lr": LR}, "drawn": DRAWN}, plans, train, FOLDER
)


def training_step(name: str):
    """A step like those of `fit`: forward, backward, Muon, in the precision that `fit` takes here."""
    model = build(name).to(memory_format=torch.channels_last).train()
    optimizer = ph.training.make_optimizer(model, "muon", LR)
    short = ph.hardware.default_precision("cpu") == "bf16"
    x = torch.randint(256, (STEP, 1, 28, 28), dtype=torch.uint8)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=short):
            loss = -model.log_prob(x).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def forward_pass(model: ph.models.base.AutoregressiveModel):
    x = torch.randint(256, (DRAWN, 1, 28, 28), dtype=torch.uint8)

    def forward() -> None:
        with torch.inference_mode():
            model(x)

    return forward


def drawing(model: ph.models.base.AutoregressiveModel):
    return lambda: ph.sample(model, DRAWN, seed=0, progress=False)


def turns(model: ph.models.base.AutoregressiveModel) -> int:
    """How many evaluations of what is new of the network must follow one another: fronts of pixels."""
    return sum(1 for _ in model.fronts(1, (1, 28, 28), like=next(model.parameters())))


def turns_of_plain_loop(model: ph.models.base.AutoregressiveModel) -> int:
    """How many passes of the whole network must follow one another: ranks of the model's order."""
    return len(model.order((28, 28)).unique())


def in_turn(work: dict) -> tuple[dict[str, float], dict[str, float | None]]:
    """Median seconds of each, all of them round after round, and MB that the process grows by meanwhile."""
    for run in work.values():
        run()
    rounds = [{name: seconds(run) for name, run in work.items()} for _ in range(ROUNDS)]
    median = {name: statistics.median(times[name] for times in rounds) for name in work}
    return median, {name: peak_memory(run) for name, run in work.items()}


def time() -> dict[str, dict]:
    """What a training step and what drawing costs, model by model."""
    models = {name: build(name).eval().to(memory_format=torch.channels_last) for name in MODELS}  # as fast untrained
    steps, memory_of_steps = in_turn({name: training_step(name) for name in MODELS})
    passes, _ = in_turn({name: forward_pass(model) for name, model in models.items()})
    draws, memory_of_draws = in_turn({name: drawing(model) for name, model in models.items()})
    return {
        name: {
            "class": type(model).__name__,
            **MODELS[name][1],
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "training_images": affordable(name),
            "training_images_per_second": STEP / steps[name],
            "training_memory_MB": memory_of_steps[name],
            "network_evaluations": turns(model),
            "network_evaluations_of_plain_loop": turns_of_plain_loop(model),
            f"seconds_for_{DRAWN}_images": draws[name],
            f"seconds_for_{DRAWN}_images_by_plain_loop": passes[name] * turns_of_plain_loop(model),
            "drawing_memory_MB": memory_of_draws[name],
        }
        for name, model in models.items()
    }


def scores(result: dict) -> dict[str, list[float]]:
    """Of each model the validation bits/dim of its seeds, the best model first."""
    found = {name: [row["valid"] for row in trainings.rows_of(result["runs"], model=name)] for name in MODELS}
    return dict(sorted(found.items(), key=lambda pair: statistics.mean(pair[1])))


def table(result: dict) -> str:
    """The table for README.md beside this file. The time of drawing is given as a multiple of the fastest model's."""
    rows, key = result["models"], f"seconds_for_{DRAWN}_images"
    fastest = min(row[key] for row in rows.values())
    lines = [
        "| Model | Validation bits/dim, mean of three seeds (range) | Parameters | Training images | "
        "Training, images/s on all cores | Evaluations one after another: plain loop, fastest | "
        f"Time for {DRAWN} images: plain loop, fastest | Memory: training step, drawing |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, bits in scores(result).items():
        row = rows[name]
        memory = (row[f"{part}_memory_MB"] for part in ("training", "drawing"))
        cells = [
            f"{row['class']}, hidden {row['hidden']}, {row['blocks']} blocks",
            f"**{statistics.mean(bits):.3f}** ({min(bits):.3f}–{max(bits):.3f})",
            f"{row['parameters']:,}",
            f"{row['training_images']:,}",
            f"{row['training_images_per_second']:.0f}",
            f"{row['network_evaluations_of_plain_loop']}, {row['network_evaluations']}",
            f"{row[key + '_by_plain_loop'] / fastest:.0f}×, **{row[key] / fastest:.1f}×**",
            ", ".join("–" if part is None else f"{part:.0f} MB" for part in memory),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def figure(result: dict):
    """Bits per dimension against the time that drawing takes: better is lower, faster is further left."""
    fig, axes = ph.plots.subplots(1, 1, size=(8.5, 3.6))
    rows, key = result["models"], f"seconds_for_{DRAWN}_images"
    fastest = min(row[key] for row in rows.values())
    for (name, seeds), marker in zip(scores(result).items(), "osD^v", strict=True):
        row, bits = rows[name], statistics.mean(seeds)
        times = [row[key + "_by_plain_loop"] / fastest, row[key] / fastest]
        label = f"{row['class']}: {row['network_evaluations']} turns"
        (line,) = axes.plot(times, [bits, bits], lw=1, alpha=0.5)
        axes.vlines(times[1], min(seeds), max(seeds), color=line.get_color())
        axes.plot(times[1], bits, marker, ms=9, color=line.get_color(), label=label)
        axes.plot(times[0], bits, marker, ms=9, color=line.get_color(), fillstyle="none")
    axes.set(
        xscale="log",
        xlabel=f"time for {DRAWN} images (fastest = 1); hollow: plain loop, one pass × turns",
        ylabel="validation bits/dim (lower is better)",
    )
    axes.set_title("equal multiply-adds of training, three seeds each")
    axes.margins(0.1)
    fig.legend(loc="outside right upper")
    return fig


def publish(result: dict) -> None:
    """Writes the figure and the table."""
    FILE.with_suffix(".png").write_bytes(ph.plots.png(figure(result)))
    into_readme(FILE, table(result))


def main() -> None:
    parser = trainings.parser(__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--train", action="store_true", help="training only")
    only.add_argument("--time", action="store_true", help="timings, figure and table only")
    options = parser.parse_args()
    if not options.time:
        trainings.complete(STUDY, jobs=options.jobs)
    if options.time:
        with ph.hardware.keep_freed_memory():
            models = time()
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
        result = STUDY.read() | {"models": models, "timing_machine": machine}
        trainings.write(STUDY.record, result)
        publish(result)
        print(table(result))
    elif not options.train:  # in a process of its own, with all cores
        subprocess.run([sys.executable, str(FILE), "--time"], check=True)


if __name__ == "__main__":
    main()
