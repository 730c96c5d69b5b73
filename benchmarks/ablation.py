"""What makes Gated PixelCNN better: its gate, its two stacks, or both?

    python benchmarks/ablation.py             what ablation.json beside this file still lacks
    python benchmarks/ablation.py --speeds    images per second only; leave the machine idle meanwhile

Four networks of equally many weights that act: one stack of masked convolutions or two stacks without a
blind spot, a ReLU or a gate. All see the same 20,000 images of Fashion-MNIST in the same order, so nothing but the
network differs. The rate of each is chosen with one seed and a quarter of the images; three seeds then, scored on 2,000
validation images. How many images each takes in the same time is measured beside.
"""

import platform
import statistics
import time

import torch
import trainings
from torch import nn
from torch.nn import functional as F

import pixelhelpers as ph
from pixelhelpers.layers import shift_down
from pixelhelpers.models.gated import gate

DATA = "fashion-mnist"
IMAGES = 20_000
RATES = {"muon": (*trainings.RATES["muon"], 0.08)}  # 0.04 was the best of the others for all
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


def name(stacks: int, gated: bool) -> str:
    return f"{'one stack' if stacks == 1 else 'two stacks'}, {'gate' if gated else 'ReLU'}"


KINDS = {name(*kind): kind for kind in HIDDEN}


def train(kind: str, lr: float, seed: int, images: int) -> dict:
    torch.manual_seed(seed)
    network = Network(*KINDS[kind])
    every = ph.load_images(DATA, fallback=False)
    seen, epochs = trainings.in_epochs(trainings.few(every, len(every.train), 2_000), images)
    return {"valid": ph.fit(network, seen, epochs=epochs, lr=lr, seed=seed, **trainings.RECIPE)[-1]["valid"]}


def plans(rows: list[dict]) -> list[dict]:
    return trainings.rates_then_seeds(rows, [{"kind": kind} for kind in KINDS], IMAGES, RATES)


def relative_speeds() -> dict[str, float]:
    """Images a second of each network over those of the last one, in turn, the median of five rounds."""
    few = trainings.few(ph.load_images(DATA, fallback=False), 320, 16)
    rounds = []
    for _ in range(6):
        seconds = {}
        for kind in HIDDEN:
            start = time.perf_counter()
            ph.fit(Network(*kind), few, epochs=1, lr=0.02, **trainings.RECIPE)
            seconds[kind] = time.perf_counter() - start
        rounds.append({name(*kind): seconds[2, True] / seconds[kind] for kind in HIDDEN})
    return {kind: statistics.median(one[kind] for one in rounds[1:]) for kind in rounds[0]}


STUDY = trainings.Study(
    trainings.record(__file__),
    {
        "recipe": trainings.RECIPE,
        "images": IMAGES,
        "weights": {kind: trainings.live_weights(Network(*KINDS[kind])) for kind in KINDS},
    },
    plans,
    train,
)


def main() -> None:
    options = trainings.parser(__doc__)
    options.add_argument("--speeds", action="store_true", help="measure speeds only")
    given = options.parse_args()
    if given.speeds:
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
        trainings.write(STUDY.record, STUDY.read() | {"speeds": relative_speeds(), "machine_of_speeds": machine})
    else:
        trainings.complete(STUDY, jobs=given.jobs)


if __name__ == "__main__":
    main()
