"""The five models side by side: what twenty minutes of training buy, and what an image then costs.

    python benchmarks/compare.py             everything that compare.json beside this file still lacks
    python benchmarks/compare.py gated       one row
    python benchmarks/compare.py --train     training only: the timings wait for an idle machine

Each model, without classes and at the size of its shipped weights, learns Fashion-MNIST for twenty minutes
with the same settings, its own schedule ending with the time, and is scored once on the 10,000 test images.
Weights and checkpoints go to runs/compare: start it again and it goes on where it stopped.
"""

import argparse
import json
import os
import platform
from pathlib import Path

import torch

import pixelhelpers as ph

FILE = Path(__file__)
RESULT = FILE.with_suffix(".json")
RUNS = FILE.parents[1] / "runs" / "compare"
MINUTES, SEED = 20, 0
TRAINING = {"epochs": 100, "batch_size": 16, "lr": 2e-3, "precision": "bf16", "seconds": 60.0 * MINUTES, "seed": SEED}
MODELS = {
    "pixelcnn": (ph.PixelCNN, {"hidden": 128, "blocks": 7}),
    "gated": (ph.GatedPixelCNN, {"hidden": 80, "blocks": 6}),
    "plusplus": (ph.PixelCNNPlusPlus, {"hidden": 48, "blocks": 1}),
    "multiscale": (ph.MultiscalePixelCNN, {"hidden": 72, "blocks": 4}),
    "attention": (ph.PixelSNAIL, {"hidden": 64, "blocks": 2}),
}


def train(name: str, result: dict) -> None:
    """Trains one model, or goes on with it, and writes its score."""
    kind, size = MODELS[name]
    images = ph.load_images("fashion-mnist", fallback=False)
    torch.manual_seed(SEED)
    model = kind(**size)
    history = ph.fit(model, images, folder=RUNS / name, resume=True, **TRAINING)
    if history.interrupted:
        raise KeyboardInterrupt
    result["models"][name] = {
        "class": kind.__name__,
        **size,
        "command": f"python benchmarks/{FILE.name} {name}",
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "training_images": history[-1]["step"] * TRAINING["batch_size"],
        "training_seconds": history[-1]["seconds"],
        "training_machine": machine(),
        "valid_bits_per_dim": history[-1]["valid"],
        "test_bits_per_dim": ph.evaluate(model, images.test),
    }
    write(result)


def machine() -> str:
    return f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def write(result: dict) -> None:
    part = RESULT.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    os.replace(part, RESULT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; without one: all")
    parser.add_argument("--train", action="store_true", help="training only")
    options = parser.parse_args()
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"no model is called {', '.join(sorted(unknown))}: give some of {', '.join(MODELS)}.")
    result = {"minutes": MINUTES, "training": TRAINING, "models": {}}
    if RESULT.exists():
        result = json.loads(RESULT.read_text(encoding="utf-8"))
    for name in options.models or MODELS:
        if name not in result["models"]:
            train(name, result)


if __name__ == "__main__":
    main()
