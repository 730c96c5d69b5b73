"""How much of the machine's arithmetic a training step uses, and what importing the package costs.

    python benchmarks/training.py

The useful work of a step is three forward passes' worth of live multiply-adds (masked taps count as
nothing); it is set against the float32 peak: the best of ten products of 2048 x 2048 matrices, measured
in the same run; so bfloat16, where the machine has matrix units for it, may pass 100 %. The precision that
`fit` takes by itself is marked. Prints what it finds, writes training.json and its table in README.md beside
this file. Leave the machine idle meanwhile.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from sampling import into_readme

import pixelhelpers as ph

SIZES = ((64, 5), (128, 7))
BATCH = 32
FILE = Path(__file__)


def seconds(work, repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def peak() -> float:
    """Multiply-adds a second."""
    a, b = torch.randn(2, 2048, 2048)
    return 2048**3 / min(seconds(lambda: a @ b, 10))


def live_multiply_adds(model: torch.nn.Module, height: int, width: int) -> int:
    """Multiply-adds of one forward pass over one image that are not with a masked tap."""
    layers = (layer for layer in model.modules() if isinstance(layer, ph.MaskedConv2d))
    return sum(int(layer.mask.expand_as(layer.weight).sum()) for layer in layers) * height * width


def training_step(hidden: int, blocks: int, precision: str) -> dict:
    torch.manual_seed(0)
    model = ph.PixelCNN(hidden=hidden, blocks=blocks)
    images = torch.randint(0, 256, (BATCH, 1, 28, 28), dtype=torch.uint8)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = -model.log_prob(images).sum() / images.numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    seconds(step, 3)
    useful = 3 * live_multiply_adds(model, 28, 28) * BATCH
    shares, speeds = [], []
    for _ in range(5):  # peak and step in turn: both see the same machine
        best = peak()
        time_of_step = min(seconds(step, 5))
        shares.append(useful / time_of_step / best)
        speeds.append(BATCH / time_of_step)
    return {
        "hidden": hidden,
        "blocks": blocks,
        "precision": precision,
        "share_of_float32_peak": statistics.median(shares),
        "shares": shares,
        "images_per_second": statistics.median(speeds),
    }


def import_ratio() -> float:
    """Seconds for `import pixelhelpers` over seconds for `import torch`, whole processes in turn."""

    def of(module: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True), 1)[0]

    of("pixelhelpers")
    return statistics.median(of("pixelhelpers") / of("torch") for _ in range(7))


def table(record: dict) -> str:
    """The table for README.md beside this file."""
    lines = ["| PixelCNN | Precision | Share of the float32 peak | Images a second |", "|---|---|---|---|"]
    for row in record["steps"]:
        precision = {"no": "float32", "bf16": "bfloat16"}[row["precision"]]
        lines.append(
            f"| hidden {row['hidden']}, {row['blocks']} blocks | {precision} | "
            f"{100 * row['share_of_float32_peak']:.0f} % | {row['images_per_second']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}",
        "batch": BATCH,
        "default_precision": ph.hardware.default_precision("cpu"),
        "peak_gflops": 2e-9 * peak(),
        "steps": [training_step(*size, precision) for size in SIZES for precision in ("no", "bf16")],
        "import_ratio": import_ratio(),
    }
    print(f"float32 peak: {result['peak_gflops']:.0f} GFLOP/s ({result['machine']})")
    for row in result["steps"]:
        print(
            f"hidden {row['hidden']:4}, {row['blocks']} blocks, precision {row['precision']:4}: "
            f"{row['share_of_float32_peak']:4.0%} of the peak, {row['images_per_second']:4.0f} images/s"
            + (" (what fit does here)" if row["precision"] == result["default_precision"] else "")
        )
    print(f"import pixelhelpers / import torch: {result['import_ratio']:.2f}")
    FILE.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    into_readme(FILE, table(result))


if __name__ == "__main__":
    with ph.hardware.keep_freed_memory():  # as `fit` does
        main()
