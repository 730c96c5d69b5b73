"""The five models side by side: what twenty minutes of training buy, and what an image then costs.

    python benchmarks/compare.py             what compare.json beside this file still lacks, then all timings
    python benchmarks/compare.py gated       trains this model again, then all timings: reproduces its row
    python benchmarks/compare.py --train     training only
    python benchmarks/compare.py --time      timings only

Each model, without classes and at the size of its shipped weights, learns Fashion-MNIST for twenty minutes
on one CPU core with the same settings, its schedule ending with the time, and is scored once on the 10,000
test images. Until then checkpoints are in runs/compare: start it again and it goes on where it stopped. Then
all models take turns: a training step with 16 images, one forward pass over 64 images, and drawing 64 images
by their fastest exact method. (What the plain loop takes for them is that pass times the number of its
turns.) Seconds mean something only beside each other, from one run on an idle machine. Also writes
compare.png and the table in README.md beside this file.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from sampling import ROUNDS, into_readme, peak_memory, seconds

import pixelhelpers as ph

FILE = Path(__file__)
RESULT = FILE.with_suffix(".json")
RUNS = FILE.parents[1] / "runs" / "compare"
MINUTES, SEED = 20, 0
TRAINING = {
    "epochs": 100,
    "optimizer": "adam",
    "batch_size": 16,
    "lr": 2e-3,
    "precision": "bf16",
    "seconds": 60.0 * MINUTES,
    "seed": SEED,
}
DRAWN = 64
MODELS = {
    "pixelcnn": (ph.PixelCNN, {"hidden": 128, "blocks": 7}),
    "gated": (ph.GatedPixelCNN, {"hidden": 80, "blocks": 6}),
    "plusplus": (ph.PixelCNNPlusPlus, {"hidden": 48, "blocks": 1}),
    "multiscale": (ph.MultiscalePixelCNN, {"hidden": 72, "blocks": 4}),
    "attention": (ph.PixelSNAIL, {"hidden": 64, "blocks": 2}),
}


def build(name: str) -> ph.models.base.AutoregressiveModel:
    kind, size = MODELS[name]
    torch.manual_seed(SEED)
    return kind(**size)


def train(name: str) -> dict:
    """Trains one model, or goes on with it, and gives its row."""
    images, model = ph.load_images("fashion-mnist", fallback=False), build(name)
    history = ph.fit(model, images, folder=RUNS / name, resume=True, **TRAINING)
    if history.interrupted:
        raise KeyboardInterrupt
    return {
        "class": type(model).__name__,
        **MODELS[name][1],
        "command": f"python benchmarks/{FILE.name} {name}",
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "training_images": history[-1]["step"] * TRAINING["batch_size"],
        "training_seconds": history[-1]["seconds"],
        "training_machine": machine(),
        "valid_bits_per_dim": history[-1]["valid"],
        "test_bits_per_dim": ph.evaluate(model, images.test),
    }


def training_step(name: str):
    """A step like those of `fit`: forward, backward, AdamW, in the precision that it was trained with."""
    model = build(name).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    x = torch.randint(256, (TRAINING["batch_size"], 1, 28, 28), dtype=torch.uint8)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=TRAINING["precision"] == "bf16"):
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


def time(rows: dict[str, dict]) -> None:
    """Adds to each row what a training step and what drawing costs."""
    models = {name: build(name).eval().to(memory_format=torch.channels_last) for name in rows}  # as fast untrained
    steps, memory_of_steps = in_turn({name: training_step(name) for name in rows})
    passes, _ = in_turn({name: forward_pass(model) for name, model in models.items()})
    draws, memory_of_draws = in_turn({name: drawing(model) for name, model in models.items()})
    for name, row in rows.items():
        row |= {
            "training_images_per_second": TRAINING["batch_size"] / steps[name],
            "training_memory_MB": memory_of_steps[name],
            "network_evaluations": turns(models[name]),
            "network_evaluations_of_plain_loop": turns_of_plain_loop(models[name]),
            f"seconds_for_{DRAWN}_images": draws[name],
            f"seconds_for_{DRAWN}_images_by_plain_loop": passes[name] * turns_of_plain_loop(models[name]),
            "drawing_memory_MB": memory_of_draws[name],
            "timing_machine": machine(),
        }


def machine() -> str:
    return f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def table(result: dict) -> str:
    """The table for README.md beside this file. The time of drawing is given as a multiple of the fastest model's."""
    rows, key = result["models"], f"seconds_for_{DRAWN}_images"
    fastest = min(row.get(key, 1.0) for row in rows.values())
    lines = [
        f"| Model | Test bits/dim after {result['minutes']} min | Parameters | Images seen in that time | "
        "Training, images/s on all cores | Evaluations one after another: plain loop, fastest | "
        f"Time for {DRAWN} images: plain loop, fastest | Memory: training step, drawing |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows.values(), key=lambda row: row["test_bits_per_dim"]):
        cells = ["–"] * 4
        if key in row:
            cells = [
                f"{row['training_images_per_second']:.0f}",
                f"{row['network_evaluations_of_plain_loop']}, {row['network_evaluations']}",
                f"{row[key + '_by_plain_loop'] / fastest:.0f}×, **{row[key] / fastest:.1f}×**",
                ", ".join(
                    "–" if row[f"{part}_memory_MB"] is None else f"{row[f'{part}_memory_MB']:.0f} MB"
                    for part in ("training", "drawing")
                ),
            ]
        head = (
            f"| {row['class']}, hidden {row['hidden']}, {row['blocks']} blocks | **{row['test_bits_per_dim']:.3f}** | "
        )
        seen = f"{row['training_images']:,}"
        lines.append(head + f"{row['parameters']:,} | {seen} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def figure(result: dict):
    """Bits per dimension against the time that drawing takes: better is lower, faster is further left."""
    fig, axes = ph.plots.subplots(1, 1, size=(8.5, 3.6))
    rows, key = result["models"], f"seconds_for_{DRAWN}_images"
    fastest = min(row[key] for row in rows.values())
    for row, marker in zip(rows.values(), "osD^v", strict=False):
        bits = row["test_bits_per_dim"]
        times = [row[key + "_by_plain_loop"] / fastest, row[key] / fastest]
        label = f"{row['class']}: {row['network_evaluations']} turns"
        (line,) = axes.plot(times, [bits, bits], lw=1, alpha=0.5)
        axes.plot(times[1], bits, marker, ms=9, color=line.get_color(), label=label)
        axes.plot(times[0], bits, marker, ms=9, color=line.get_color(), fillstyle="none")
    axes.set(
        xscale="log",
        xlabel=f"time for {DRAWN} images (fastest = 1); hollow: plain loop, one pass × turns",
        ylabel="test bits/dim (lower is better)",
    )
    axes.set_title(f"after {result['minutes']} minutes of training each")
    axes.margins(0.1)
    fig.legend(loc="outside right upper")
    return fig


def write(result: dict) -> None:
    part = RESULT.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    os.replace(part, RESULT)


def publish(result: dict) -> None:
    """Writes the figure and the table."""
    FILE.with_suffix(".png").write_bytes(ph.plots.png(figure(result)))
    into_readme(FILE, table(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; without one: all")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--train", action="store_true", help="training only")
    only.add_argument("--time", action="store_true", help="timings only")
    options = parser.parse_args()
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"no model is called {', '.join(sorted(unknown))}: give some of {', '.join(MODELS)}.")
    names = options.models or list(MODELS)
    result = {"minutes": MINUTES, "training": TRAINING, "drawn": DRAWN, "models": {}}
    if RESULT.exists():
        result["models"] = json.loads(RESULT.read_text(encoding="utf-8"))["models"]
    if options.time:
        with ph.hardware.keep_freed_memory():
            time(result["models"])
        write(result)
        publish(result)
        print(table(result))
        return
    torch.set_num_threads(1)
    for name in names:
        if options.models or name not in result["models"]:
            result["models"][name] = train(name)
            write(result)
            shutil.rmtree(RUNS / name)  # its row is safe; another run begins anew
    if not options.train:  # in a process of its own, with all cores
        subprocess.run([sys.executable, str(FILE), "--time"], check=True)


if __name__ == "__main__":
    main()
