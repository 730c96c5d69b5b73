"""What one, five and twenty minutes of training reach on this machine.

    python benchmarks/minutes.py

Three runs of PixelCNN (hidden 64, 5 blocks) on Fashion-MNIST, each with its own learning-rate schedule
that ends with its minutes, in float32, scored on the 5,000 validation images. Finished runs are kept in minutes.json
beside this file: start it again and it goes on with the missing ones. Leave the machine idle meanwhile.
"""

import json
import platform
from pathlib import Path

import torch

import pixelhelpers as ph

MINUTES = (1, 5, 20)
RESULT = Path(__file__).with_suffix(".json")


def main() -> None:
    images = ph.load_images("fashion-mnist", fallback=False)
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}",
        "device": ph.default_device().type,
        "model": {"hidden": 64, "blocks": 5},
        "data": images.name,
        "runs": [],
    }
    if RESULT.exists():
        result["runs"] = json.loads(RESULT.read_text(encoding="utf-8"))["runs"]
    for minutes in MINUTES:
        if any(run["minutes"] == minutes for run in result["runs"]):
            continue
        torch.manual_seed(0)
        model = ph.PixelCNN(**result["model"])
        history = ph.fit(
            model,
            images,
            epochs=1000,
            seconds=60 * minutes,
            optimizer="adam",
            batch_size=32,
            lr=2e-3,
            seed=0,
            precision="no",
        )
        result["runs"].append({"minutes": minutes, "valid": history[-1]["valid"], "step": history[-1]["step"]})
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for run in result["runs"]:
        print(f"{run['minutes']:3} min: {run['valid']:.3f} bits/dim after {run['step']} steps of 32 images")


if __name__ == "__main__":
    main()
