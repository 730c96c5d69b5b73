"""Masked or shifted: what a single rectangular shift loses, and what each form costs.

    python benchmarks/shifted.py          what shifted.json beside this file still lacks of the trainings
    python benchmarks/shifted.py --cost   the cost only

Trained are PixelCNNs of about equally many weights that act, on the same 24,000 images: one with raster masks, one
whose every convolution sees the rectangle up and to the left, and one whose every convolution sees the rectangle of
the rows above. The rate of each is chosen with one seed and a quarter of the images; three seeds then, scored on 2,000
validation images of clothes or 500 of digits. `--cost` times forward passes and training steps of single layers, in
turn, as ratios to a square masked kernel, and counts their multiply-adds; leave the machine idle meanwhile.
"""

import platform
import statistics
import time

import torch
import trainings
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import pixelhelpers as ph
from pixelhelpers.layers import (
    DownRightShiftedConv2d,
    DownShiftedConv2d,
    shift_down,
    shift_right,
)
from pixelhelpers.rewriting import ShiftedPair, rewritten, to_masked

DATA = ("fashion-mnist", "digits")
IMAGES = 24_000
BLOCKS = 5
HIDDEN = {"mask": 48, "up and left": 50, "rows above": 46}  # about equally many weights that act
SIDE, BATCH, FEATURES = 28, 32, 32


class Rectangle(nn.Module):
    """One shifted convolution in place of a masked one.

    Arguments:
        masked: the layer that it replaces.
        upwards: see the rows above on both sides, instead of rows and columns up and to the left.
    """

    def __init__(self, masked: ph.MaskedConv2d, upwards: bool):
        super().__init__()
        reach = masked.kernel_size[0] // 2
        size = (reach + 1, masked.kernel_size[1] if upwards else reach + 1)
        kind = DownShiftedConv2d if upwards else DownRightShiftedConv2d
        self.conv = kind(masked.in_channels, masked.out_channels, size)
        shift = shift_down if upwards else shift_right
        self.shift = shift if masked.mask_type == "A" else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.shift(x))


def network(kind: str) -> nn.Module:
    model = ph.PixelCNN(hidden=HIDDEN[kind], blocks=BLOCKS)
    if kind == "mask":
        return model
    return rewritten(model, ph.MaskedConv2d, lambda layer: Rectangle(layer, upwards=kind == "rows above"))


def train(data: str, kind: str, lr: float, seed: int, images: int) -> dict:
    torch.manual_seed(seed)
    every = ph.load_images(data, fallback=False)
    seen, epochs = trainings.in_epochs(trainings.few(every, len(every.train), 2_000), images)
    return {"valid": ph.fit(network(kind), seen, epochs=epochs, lr=lr, seed=seed, **trainings.RECIPE)[-1]["valid"]}


def plans(rows: list[dict]) -> list[dict]:
    return trainings.rates_then_seeds(rows, [{"data": data, "kind": kind} for data in DATA for kind in HIDDEN], IMAGES)


STUDY = trainings.Study(
    trainings.record(__file__),
    {
        "recipe": trainings.RECIPE,
        "images": IMAGES,
        "weights": {kind: trainings.live_weights(network(kind)) for kind in HIDDEN},
    },
    plans,
    train,
)


def forms(size: int) -> dict[str, nn.Module]:
    """A raster-order convolution in three forms, and both shifted ones as square masked kernels and as themselves."""
    masked = ph.MaskedConv2d("B", FEATURES, FEATURES, size)
    square = nn.Conv2d(FEATURES, FEATURES, size, padding=size // 2)
    mask = masked.mask

    class Mask(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * mask

    nn.utils.parametrize.register_parametrization(square, "weight", Mask())
    down = DownShiftedConv2d(FEATURES, FEATURES, (size // 2 + 1, size))
    right = DownRightShiftedConv2d(FEATURES, FEATURES, (size // 2 + 1, size // 2 + 1))
    return {
        "raster, square masked kernel": square,
        "raster, MaskedConv2d": masked,
        "raster, two shifted": ShiftedPair("B", FEATURES, FEATURES, size),
        "rows above, square masked kernel": to_masked(down),
        "rows above, shifted": down,
        "up and left, square masked kernel": to_masked(right),
        "up and left, shifted": right,
    }


def cost() -> list[dict]:
    rows = []
    x = torch.randn(BATCH, FEATURES, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    for size in (3, 5, 7):
        layers = forms(size)
        for layer in layers.values():
            layer.to(memory_format=torch.channels_last)
        seconds = {(name, work): [] for name in layers for work in ("forward", "training")}
        for turn in range(40):  # all in turn: each sees the same machine
            for name, layer in layers.items():
                for work in ("forward", "training"):
                    start = time.perf_counter()
                    run(layer, x, work)
                    if turn >= 5:
                        seconds[name, work].append(time.perf_counter() - start)
        medians = {key: statistics.median(times) for key, times in seconds.items()}
        for name, layer in layers.items():
            square = name.split(",")[0] + ", square masked kernel"
            with FlopCounterMode(display=False) as counter:
                layer(x[:1])
            row = {"kernel": size, "form": name, "multiply_adds": counter.get_total_flops() // 2 // SIDE**2}
            row |= {work: medians[name, work] / medians[square, work] for work in ("forward", "training")}
            rows.append(row)
            print(
                f"{size}x{size} {name:34} {row['multiply_adds']:7,} multiply-adds a pixel, "
                f"forward {row['forward']:.2f}, training step {row['training']:.2f} of the square masked kernel's time"
            )
    return rows


def run(layer: nn.Module, x: torch.Tensor, work: str) -> None:
    if work == "forward":
        with torch.no_grad():
            layer(x)
        return
    x = x.requires_grad_()
    layer(x).square().sum().backward()
    layer.zero_grad()


def main() -> None:
    options = trainings.parser(__doc__)
    options.add_argument("--cost", action="store_true", help="the cost only")
    given = options.parse_args()
    if given.cost:
        with ph.hardware.keep_freed_memory():  # as `fit` does
            found = {"cost": cost()}
        found["machine_of_cost"] = (
            f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
        )
        trainings.write(STUDY.record, STUDY.read() | found)
    else:
        trainings.complete(STUDY, jobs=given.jobs)


if __name__ == "__main__":
    main()
