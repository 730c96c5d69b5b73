"""What half a minute and three minutes of training reach on this machine, in bits and in pictures.

    python benchmarks/minutes.py

Two runs of PixelCNN on Fashion-MNIST by the default recipe, the network the larger the longer it may learn, each with
its own learning-rate schedule that ends with its minutes, in float32, scored on the 5,000 validation images. Writes
minutes.json and minutes.png beside this file: eight images by each network and by the shipped weights, all from the
same random numbers. Finished runs are kept (their weights in runs/minutes): start it again and it goes on with the
missing ones. Leave the machine idle meanwhile.
"""

import json
import platform
from pathlib import Path

import torch

import pixelhelpers as ph
from pixelhelpers.files import write_atomically

SIZES = {0.5: {"hidden": 32, "blocks": 2}, 3: {"hidden": 64, "blocks": 5}}
FILE = Path(__file__)
RESULT = FILE.with_suffix(".json")
RUNS = FILE.parents[1] / "runs" / "minutes"
DRAWN = 8


def name(minutes: float) -> str:
    return f"{60 * minutes:.0f} seconds" if minutes < 1 else f"{minutes} minutes"


def train(minutes: float, images: ph.Images) -> dict:
    torch.manual_seed(0)
    model = ph.PixelCNN(**SIZES[minutes])
    history = ph.fit(model, images, epochs=1000, seconds=60 * minutes, seed=0, precision="no")
    model.save_pretrained(RUNS / str(minutes))
    return {
        "minutes": minutes,
        "model": SIZES[minutes],
        "recipe": history.recipe,
        "valid": history[-1]["valid"],
        "step": history[-1]["step"],
    }


def figure(result: dict):
    """A row of images by each network, and one by the shipped weights."""
    networks = {name(run["minutes"]): ph.PixelCNN.from_pretrained(RUNS / str(run["minutes"])) for run in result["runs"]}
    networks["shipped"] = ph.load_pretrained(f"pixelcnn-{result['data']}")
    fig, axes = ph.plots.subplots(len(networks), 1, size=(8, 1.25 * len(networks)))
    for axis, (title, network) in zip(axes, networks.items(), strict=True):
        drawn = ph.sample(network, DRAWN, seed=0, progress=False)
        axis.imshow(ph.image_grid(drawn, DRAWN).movedim(0, -1))
        axis.set_title(title)
        axis.axis("off")
    return fig


def main() -> None:
    images = ph.load_images("fashion-mnist", fallback=False)
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}",
        "device": ph.default_device().type,
        "data": images.name,
        "runs": [],
    }
    if RESULT.exists():
        result["runs"] = json.loads(RESULT.read_text(encoding="utf-8"))["runs"]
    for minutes in SIZES:
        if all(run["minutes"] != minutes for run in result["runs"]):
            result["runs"].append(train(minutes, images))
            write_atomically(RESULT, (json.dumps(result, indent=2) + "\n").encode())
    for run in result["runs"]:
        print(f"{name(run['minutes']):>10}: {run['valid']:.3f} bits/dim after {run['step']} steps, {run['recipe']}")
    FILE.with_suffix(".png").write_bytes(ph.plots.png(figure(result)))


if __name__ == "__main__":
    main()
