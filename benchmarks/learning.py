"""How fast each family learns: bits per dimension against images, multiply-adds and seconds, by Adam and by Muon.

    python benchmarks/learning.py --jobs 2   what learning.json beside this file still lacks, two runs at a time
    python benchmarks/learning.py --time     images per second on all cores; leave the machine idle meanwhile
    python benchmarks/learning.py --show     figure and tables from the record

First, batch and learning rate are chosen for each family and optimiser, with one seed and one pass over 10,000
images of Fashion-MNIST. Then the chosen ones, and what was this project's recipe before (Adam, 16 images a step, rate
0.002), train from several seeds on as many multiply-adds as 30,000 images cost PixelCNN. Where Muon got to 2.90, the
recipe before trains once more, on three times the images that Muon needed for that. All runs are float32, their
schedules end with them, and their scores are those of 500 validation images: test images are not touched.
The peer is a network of the form of the UvA tutorial's PixelCNN: two stacks of masked 3x3 convolutions with its
dilations, Adam at 0.001 and 128 images a step. Finished runs are kept, others go on from their checkpoints in
runs/learning.
"""

import functools
import math
import platform
import statistics
from pathlib import Path

import torch
import trainings
from recipe import multiply_adds
from sampling import ROUNDS, into_readme, seconds
from torch import nn
from torch.nn import functional as F

import pixelhelpers as ph
from pixelhelpers.models.gated import gate

FILE = Path(__file__)
FOLDER = FILE.parents[1] / "runs" / "learning"
IMAGES_TO_CHOOSE, IMAGES, IMAGES_OF_A_PASS, SCORED, SCORES = 10_000, 30_000, 50_000, 500, 20
TARGET = 2.9  # bits/dim
NOISE = 0.02  # bits/dim, as seeds differ
BEFORE = ("adam", 16, 2e-3)
GRID = {
    "muon": ((16, 0.02), (8, 0.01), (8, 0.02), (8, 0.04)),
    "adam": ((16, 2e-3), (8, 4e-3), (8, 8e-3)),
}
WIDER = {"pixelcnn": {"muon": ((4, 0.01), (4, 0.02)), "adam": ((16, 4e-3),)}}  # tried first, to see where to look


class PeerLayer(nn.Module):
    """A gated layer of two stacks of masked convolutions, with a dilation."""

    def __init__(self, hidden: int, dilation: int):
        super().__init__()
        self.down = ph.MaskedConv2d("B", hidden, 2 * hidden, 3)
        self.across = ph.MaskedConv2d("B", hidden, 2 * hidden, (1, 3))
        self.link, self.out = nn.Conv2d(2 * hidden, 2 * hidden, 1), nn.Conv2d(hidden, hidden, 1)
        self.down.mask[:, :, 1] = True  # the whole row of the pixel: what it is given was shifted down
        self.dilation = dilation

    def conv(self, layer: ph.MaskedConv2d, x: torch.Tensor) -> torch.Tensor:
        padding = [self.dilation * side for side in layer.padding]
        return F.conv2d(x, layer.weight * layer.mask, layer.bias, padding=padding, dilation=self.dilation)

    def forward(self, v: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        v = self.conv(self.down, v)
        return gate(v), h + self.out(gate(self.conv(self.across, h) + self.link(v)))


class Peer(nn.Module):
    """A PixelCNN of the form of the UvA tutorial's, as a module of one's own."""

    def __init__(self, hidden: int, levels: int = 256):
        super().__init__()
        self.above = ph.DownShiftedConv2d(1, hidden, (1, 3))
        self.beside = ph.MaskedConv2d("A", 1, hidden, (1, 3))
        self.layers = nn.ModuleList(PeerLayer(hidden, dilation) for dilation in (1, 2, 1, 4, 1, 2, 1))
        self.out, self.levels = nn.Conv2d(hidden, levels, 1), levels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x / (self.levels - 1) * 2 - 1
        v = self.above(ph.layers.shift_down(x)).contiguous(memory_format=torch.channels_last)
        h = self.beside(x).contiguous(memory_format=torch.channels_last) + v
        for layer in self.layers:
            v, h = layer(v, h)
        return self.out(F.elu(h))


FAMILIES = {
    "pixelcnn": (ph.PixelCNN, {"hidden": 96, "blocks": 5}),
    "gated": (ph.GatedPixelCNN, {"hidden": 40, "blocks": 4}),
    "plusplus": (ph.PixelCNNPlusPlus, {"hidden": 24, "blocks": 1}),
    "multiscale": (ph.MultiscalePixelCNN, {"hidden": 72, "blocks": 4}),
    "attention": (ph.PixelSNAIL, {"hidden": 32, "blocks": 2}),
}
PEER = {"peer": (Peer, {"hidden": 30})}
FEW_IMAGES = {"pixelcnn, larger": 6_000, "gated, larger": 4_000, "plusplus, larger": 3_000}
LARGER = {
    "pixelcnn, larger": (ph.PixelCNN, {"hidden": 128, "blocks": 7}),
    "gated, larger": (ph.GatedPixelCNN, {"hidden": 64, "blocks": 5}),
    "plusplus, larger": (ph.PixelCNNPlusPlus, {"hidden": 48, "blocks": 1}),
}
NETWORKS = FAMILIES | PEER | LARGER


def build(family: str, seed: int = 0) -> nn.Module:
    kind, size = NETWORKS[family]
    torch.manual_seed(seed)
    return kind(**size)


def plan(family: str, optimizer: str, batch_size: int, lr: float, seed: int, images: int) -> dict:
    return dict(family=family, optimizer=optimizer, batch_size=batch_size, lr=lr, seed=seed, images=images)


def train(**plan) -> dict:
    """Trains one network, or goes on with it."""
    images, epochs = trainings.in_epochs(
        trainings.few(ph.load_images("fashion-mnist", fallback=False), IMAGES_OF_A_PASS, SCORED), plan["images"]
    )
    recipe = {name: plan[name] for name in ("optimizer", "batch_size", "lr", "seed")}
    history = ph.fit(
        build(plan["family"], plan["seed"]),
        images,
        epochs=epochs,
        scores_per_epoch=1 if plan["images"] == IMAGES_TO_CHOOSE else SCORES // epochs,
        folder=FOLDER / trainings.name_of(plan),
        resume=True,
        **trainings.RECIPE | recipe,
    )
    if history.interrupted:
        raise KeyboardInterrupt
    seen = len(images.train)
    curve = [(round(row["epoch"] * seen), round(row["valid"], 4), round(row["seconds"], 1)) for row in history]
    return {"valid": history[-1]["valid"], "curve": curve}


def plans(rows: list[dict]) -> list[dict]:
    """What is to be run, as far as is known: the second stage needs the results of the first."""
    first = [
        plan(family, optimizer, *choice, 0, IMAGES_TO_CHOOSE)
        for family in FAMILIES
        for optimizer in GRID
        for choice in tried(family, optimizer)
    ]
    second = []
    for family in FAMILIES:
        images = affordable(family)
        for optimizer in GRID:
            if choice := chosen(rows, family, optimizer):
                second += [plan(family, optimizer, *choice, seed, images) for seed in trainings.SEEDS]
        second.append(plan(family, *BEFORE, 0, images))
    second += [plan("peer", "adam", 128, 1e-3, seed, affordable("peer")) for seed in trainings.SEEDS]
    few = [
        plan(family, *NETWORKS[family][0].recipes[0], seed, images)
        for family, images in FEW_IMAGES.items()
        for seed in trainings.SEEDS
    ]
    few += [plan(family, "muon", 8, 0.04, trainings.SEEDS[0], images) for family, images in FEW_IMAGES.items()]
    third = [plan(family, *BEFORE, 0, images) for family in FAMILIES if (images := three_times(rows, family))]
    return first + second + few + third


def tried(family: str, optimizer: str) -> tuple[tuple[int, float], ...]:
    """Batches and rates of the first stage."""
    return GRID[optimizer] + WIDER.get(family, {}).get(optimizer, ())


@functools.cache
def affordable(family: str) -> int:
    """For how many images the multiply-adds suffice that `IMAGES` images cost PixelCNN."""
    x = torch.zeros(1, 1, 28, 28)
    return IMAGES * multiply_adds(build("pixelcnn"), x) // multiply_adds(build(family), x)


def chosen(rows: list[dict], family: str, optimizer: str) -> tuple[int, float] | None:
    """Batch and rate that did best in the first stage, once all have been tried.

    Within `NOISE` of the best score it takes the largest batch, which means fewer steps for the same images, and then
    the lowest rate, which is safer.
    """
    first = trainings.rows_of(rows, family=family, optimizer=optimizer, images=IMAGES_TO_CHOOSE)
    if len(first) < len(tried(family, optimizer)):
        return None
    first = [row for row in first if row["valid"] is not None]
    best = min(row["valid"] for row in first)
    good = [row for row in first if row["valid"] <= best + NOISE]
    choice = max(good, key=lambda row: (row["batch_size"], -row["lr"]))
    return choice["batch_size"], choice["lr"]


def three_times(rows: list[dict], family: str) -> int | None:
    """Three times the images after which Muon was at the target in every seed, if the recipe before saw fewer."""
    choice, budget = chosen(rows, family, "muon"), affordable(family)
    if choice is None:
        return None
    runs = [plan(family, "muon", *choice, seed, budget) for seed in trainings.SEEDS]
    found = [row for run in runs for row in trainings.rows_of(rows, **run)]
    images = images_to(TARGET, found) if len(found) == len(runs) else None
    return 3 * max(images) if images and 3 * max(images) > budget else None


def reached(row: dict, target: float) -> int | None:
    """Images after which a run was at the target for good, between two scores in a straight line."""
    curve = row["curve"]
    last = max((number for number, point in enumerate(curve) if point[1] > target), default=-1)
    if last in (-1, len(curve) - 1):
        return None
    (images, bits, _), (more_images, fewer_bits, _) = curve[last : last + 2]
    return round(images + (bits - target) / (bits - fewer_bits) * (more_images - images))


def show(result: dict) -> None:
    """Writes the figure and both tables, and prints the tables."""
    FILE.with_suffix(".png").write_bytes(ph.plots.png(figure(result)))
    into_readme(FILE, table(result))
    print(table(result))


def table(result: dict) -> str:
    return choices(result) + "\n" + long_runs(result)


def choices(result: dict) -> str:
    """The first stage: a line a family, a column a recipe that all have tried, the best one in bold."""
    columns = [(optimizer, *choice) for optimizer, tries in GRID.items() for choice in tries]
    names = [f"{optimizer.title()}, {batch}, {lr:g}" for optimizer, batch, lr in columns]
    lines = ["| Family | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for family in FAMILIES:
        scores = []
        for optimizer, batch, lr in columns:
            found = {"optimizer": optimizer, "batch_size": batch, "lr": lr, "images": IMAGES_TO_CHOOSE}
            scores += [row["valid"] or math.inf for row in trainings.rows_of(result["runs"], family=family, **found)]
        cells = [f"**{score:.3f}**" if score == min(scores) else f"{score:.3f}" for score in scores]
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def recipe(row: dict) -> str:
    return f"{row['optimizer'].title()}, {row['batch_size']}, {row['lr']:g}"


def arms(result: dict) -> dict[tuple[str, str], list[dict]]:
    """The long runs of each family and recipe, one per seed."""
    arms = {}
    for row in result["runs"]:
        family = row["family"]
        if row["images"] == (FEW_IMAGES.get(family) or affordable(family)) and row["valid"] is not None:
            arms.setdefault((family, recipe(row)), []).append(row)
    return arms


def spread(values: list[float], form: str) -> str:
    """Mean and, for several seeds, the range."""
    mean = f"{statistics.mean(values):{form}}"
    return mean if len(values) == 1 else f"{mean} ({min(values):{form}}–{max(values):{form}})"


def long_runs(result: dict) -> str:
    """What each recipe reached, when it was at the target, and when it was where the recipe before ended."""
    before = recipe(dict(zip(("optimizer", "batch_size", "lr"), BEFORE, strict=True)))
    lines = [
        f"| Family, parameters | Recipe: optimiser, images a step, rate | Images to {TARGET:.2f} bits/dim | "
        f"Minutes to there | Images to where {before} ended | Bits/dim in the end | Images in all | "
        "Multiply-adds, T | Minutes in all |",
        "|---" * 9 + "|",
    ]
    found = arms(result)
    for (family, name), rows in found.items():
        network, seen = build(family), rows[0]["images"]
        speed = result.get("images_per_second", {}).get(family, {}).get(name)
        images = images_to(TARGET, rows)
        first, minutes = longer(result, rows[0]), "–"
        if images:
            first, minutes = spread(images, ",.0f"), in_minutes(statistics.mean(images), speed)
        there = "–"
        if name != before and (old := found.get((family, before))):
            images = images_to(old[0]["valid"], rows)
            there = spread(images, ",.0f") if images else "not reached"
        size = f"{sum(weight.numel() for weight in network.parameters()):,}"
        end = spread([row["valid"] for row in rows], ".3f")
        work = 3 * seen * multiply_adds(network, torch.zeros(1, 1, 28, 28)) / 1e12  # backward costs two forward passes
        lines.append(
            f"| {family}, {size} | {name} | {first} | {minutes} | {there} | {end} | {seen:,} | {work:.1f} | "
            f"{in_minutes(seen, speed)} |"
        )
    return "\n".join(lines) + "\n"


def in_minutes(images: float, speed: float | None) -> str:
    return f"{images / speed / 60:.1f}" if speed else "not timed"


def longer(result: dict, row: dict) -> str:
    """What a longer run by the same recipe says, where this one did not get to the target."""
    same = {name: row[name] for name in ("family", "optimizer", "batch_size", "lr", "seed")}
    for run in trainings.rows_of(result["runs"], **same):
        if run["images"] > row["images"]:
            there = reached(run, TARGET)
            return f"{there:,} of {run['images']:,}" if there else f"not in {run['images']:,} ({run['valid']:.3f})"
    return "not reached"


def images_to(target: float, rows: list[dict]) -> list[int] | None:
    """After how many images each run was at the target, if all were."""
    there = [reached(row, target) for row in rows]
    return there if all(there) else None


def figure(result: dict):
    """Bits per dimension over images, a panel a family, a line a recipe, a shade from best to worst seed."""
    shown = {arm: rows for arm, rows in arms(result).items() if arm[0] in FAMILIES}
    styles = zip(("-", "--", ":"), ph.plots.COLOURS, strict=False)
    looks = dict(zip(dict.fromkeys(name for _, name in shown), styles, strict=False))
    fig, axes = ph.plots.subplots(2, 3, size=(8.4, 5), sharex=True, sharey=True)
    lines = {}
    for axis, family in zip(axes.flat, FAMILIES, strict=False):
        axis.axhline(TARGET, color=ph.plots.SILVER, lw=1)
        for (_, name), rows in ((arm, rows) for arm, rows in shown.items() if arm[0] == family):
            thousands = [images / 1000 for images, *_ in rows[0]["curve"]]
            bits = torch.tensor([[bits for _, bits, _ in row["curve"]] for row in rows])
            style, colour = looks[name]
            (lines[name],) = axis.plot(thousands, bits.mean(0), style, color=colour)
            axis.fill_between(thousands, bits.amin(0), bits.amax(0), color=colour, alpha=0.2, lw=0)
        axis.set(title=family, ylim=(2.75, 3.6))
    fig.supxlabel("thousands of images")
    fig.supylabel("validation, bits per dimension")
    axes[-1, -1].axis("off")
    axes[-1, -1].legend(lines.values(), lines, loc="center", title="images a step, rate")
    return fig


def time(result: dict) -> None:
    """Images per second on all cores, of training steps by every recipe, one after the other in every round."""
    work = {}
    for arm, (row, *_) in arms(result).items():
        model = ph.as_model(build(arm[0])).train()
        optimizer = ph.training.make_optimizer(model, row["optimizer"], row["lr"])
        x = torch.randint(256, (row["batch_size"], 1, 28, 28), dtype=torch.uint8)

        def step(model=model, optimizer=optimizer, x=x) -> None:
            (-model.log_prob(x).sum() / x.numel()).backward()
            optimizer.step()
            optimizer.zero_grad()

        step()
        work[arm] = step, len(x)
    rounds = [{arm: seconds(step) for arm, (step, _) in work.items()} for _ in range(10 * ROUNDS)]
    speeds = {}
    for (family, name), (_, size) in work.items():
        speeds.setdefault(family, {})[name] = size / statistics.median(times[family, name] for times in rounds)
    result["images_per_second"] = speeds
    result["timing_machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


STUDY = trainings.Study(trainings.record(__file__), {}, plans, train, FOLDER)


def main() -> None:
    parser = trainings.parser(__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--time", action="store_true", help="images per second only")
    only.add_argument("--show", action="store_true", help="figure and tables only")
    options = parser.parse_args()
    if options.time:
        with ph.hardware.keep_freed_memory():
            result = STUDY.read()
            time(result)
            trainings.write(STUDY.record, result)
    elif not options.show:
        trainings.complete(STUDY, jobs=options.jobs)
    show(STUDY.read())


if __name__ == "__main__":
    main()
