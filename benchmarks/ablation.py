"""What makes Gated PixelCNN better: its gate, its two stacks, or both?

    python benchmarks/ablation.py

Four networks of equally many weights that act: one stack of masked convolutions or two stacks without a
blind spot, a ReLU or a gate. All are trained for the same time: each gets as many images as it can take while
the network with everything takes 10,000, by the speeds that are measured first, in turn. Two or three seeds each,
scored on 2,000 validation images. Finished runs are kept in ablation.json beside this file: start it again
and it goes on with the missing ones. Speeds are measured once; leave the machine idle meanwhile.
"""

import dataclasses
import json
import math
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import pixelhelpers as ph
from pixelhelpers.layers import shift_down
from pixelhelpers.models.gated import gate

RESULT = Path(__file__).with_suffix(".json")
SEEDS = {"fashion-mnist": (0, 1, 2), "digits": (0, 1)}
IMAGES = 10_000  # that the network with two gated stacks is trained on
BLOCKS = 4
HIDDEN = {(1, False): 84, (1, True): 62, (2, False): 65, (2, True): 45}  # (stacks, gated): equally many weights


class Network(nn.Module):
    """Stem, blocks, head: with one stack or two, with ReLUs or gates.

    Arguments:
        stacks: 1 (masked 3x3 convolutions) or 2 (vertical and horizontal, linked).
        gated: tanh times sigmoid of two halves, instead of a ReLU.
    """

    def __init__(self, stacks: int, gated: bool):
        super().__init__()
        hidden, self.stacks = HIDDEN[stacks, gated], stacks
        wide = 2 * hidden if gated else hidden
        self.act = gate if gated else F.relu
        self.stem = ph.MaskedConv2d("A", 1, hidden, 7 if stacks == 1 else (1, 7))
        self.look = nn.ModuleList(
            ph.MaskedConv2d("B", hidden, wide, 3 if stacks == 1 else (1, 3)) for _ in range(BLOCKS)
        )
        self.out = nn.ModuleList(ph.MaskedConv2d("B", hidden, hidden, 1) for _ in range(BLOCKS))
        if stacks == 2:
            self.above = ph.DownShiftedConv2d(1, hidden, (3, 7))
            self.down = nn.ModuleList(ph.DownShiftedConv2d(hidden, wide, (2, 3)) for _ in range(BLOCKS))
            self.link = nn.ModuleList(nn.Conv2d(wide, wide, 1) for _ in range(BLOCKS))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(hidden, 64, 1), nn.ReLU(), nn.Conv2d(64, 256, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        h = self.stem(x)
        v = self.above(shift_down(x)) if self.stacks == 2 else None
        for k in range(BLOCKS):
            looked = self.look[k](h)
            if v is not None:
                v = self.down[k](v)
                looked = looked + self.link[k](v)
                v = self.act(v)
            h = h + self.out[k](self.act(looked))
        return self.head(h)


def live_weights(network: nn.Module) -> int:
    """Counts the weights that act: masked ones do not."""
    masked = sum(
        int((~layer.mask).expand_as(layer.weight).sum())
        for layer in network.modules()
        if isinstance(layer, ph.MaskedConv2d)
    )
    return sum(weight.numel() for weight in network.parameters()) - masked


def few(images: ph.Images, train: int, valid: int) -> ph.Images:
    cut = {"train": train, "train_labels": train, "valid": valid, "valid_labels": valid}
    return dataclasses.replace(images, **{name: getattr(images, name)[:count] for name, count in cut.items()})


def relative_speeds(images: ph.Images) -> dict[str, float]:
    """Images a second of each network over those of the last one, in turn, the median of five rounds."""
    images = few(images, 320, 16)
    rounds = []
    for _ in range(6):
        seconds = {}
        for kind in HIDDEN:
            start = time.perf_counter()
            train(images, *kind, seed=0, count=320)
            seconds[kind] = time.perf_counter() - start
        rounds.append({name(*kind): seconds[2, True] / seconds[kind] for kind in HIDDEN})
    return {kind: statistics.median(one[kind] for one in rounds[1:]) for kind in rounds[0]}


def name(stacks: int, gated: bool) -> str:
    return f"{'one stack' if stacks == 1 else 'two stacks'}, {'gate' if gated else 'ReLU'}"


def train(images: ph.Images, stacks: int, gated: bool, seed: int, count: int) -> float:
    """Trains on `count` images, counting repeats, and gives the score on the validation images."""
    torch.manual_seed(seed)
    network = Network(stacks, gated)
    epochs = math.ceil(count / len(images.train))
    images = few(images, count // epochs, len(images.valid))
    how = {"optimizer": "adam", "batch_size": 16, "lr": 2e-3, "seed": seed, "progress": False}
    return ph.fit(network, images, epochs=epochs, **how)[-1]["valid"]


def main() -> None:
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}",
        "precision": ph.hardware.default_precision(ph.default_device().type),
        "images": IMAGES,
        "weights": {name(*kind): live_weights(Network(*kind)) for kind in HIDDEN},
        "runs": [],
    }
    sets = {data: few(ph.load_images(data, fallback=False), 55_000, 2_000) for data in SEEDS}
    if RESULT.exists():
        result |= {key: json.loads(RESULT.read_text(encoding="utf-8"))[key] for key in ("speeds", "runs")}
    else:
        result["speeds"] = relative_speeds(sets["fashion-mnist"])
    print(
        *(
            f"{kind}: {count:,} weights, speed {result['speeds'][kind]:.2f}"
            for kind, count in result["weights"].items()
        ),
        sep="\n",
    )
    every = [(data, seed, kind) for data, seeds in SEEDS.items() for seed in seeds for kind in HIDDEN]
    for data, seed, kind in every:
        if any((run["data"], run["seed"], run["kind"]) == (data, seed, name(*kind)) for run in result["runs"]):
            continue
        count = int(IMAGES * result["speeds"][name(*kind)])
        run = {"data": data, "seed": seed, "kind": name(*kind), "images": count}
        run["valid"] = train(sets[data], *kind, seed=seed, count=count)
        print(f"{data:14} {run['kind']:18} seed {seed}: {run['valid']:.3f} bits/dim after {count:,} images", flush=True)
        result["runs"].append(run)
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
