"""What it costs to draw images, by each method, for several models, batches and image sizes.

    python benchmarks/sampling.py                        measures, writes sampling.json, .png and its table
    python benchmarks/sampling.py --model GatedPixelCNN  measures this class only and keeps the rest of the record
    python benchmarks/sampling.py --profile              measures only where the time of method "cached" goes

Times are given as ratios only: to one forward pass over the same batch (one of many in a row), and to the
method "naive". All methods are run in turn, several times over, and the median of each turn's ratio is
given. "naive" and "cropped" draw in some turns, spread evenly over the order of drawing, an image of which
the other pixels are known; what that takes beyond a call that draws none is multiplied up to all turns.
"fixed-point" runs once, and with the shipped weights only: how many passes it takes depends on what the
model has learned. All of it runs after `hardware.keep_freed_memory`, which helps "naive" most. Leave the
machine idle meanwhile.
"""

import argparse
import ctypes
import json
import platform
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import pixelhelpers as ph

MODELS = (
    ("PixelCNN", 64, 5),
    ("PixelCNN", 128, 7),
    ("GatedPixelCNN", 80, 6),
    ("PixelCNNPlusPlus", 48, 1),
    ("MultiscalePixelCNN", 72, 4),
    ("PixelSNAIL", 64, 2),
)
PROFILED = MODELS[1]  # also drawn, and measured at all sides
BATCHES = (1, 16, 64, 256)
SIDES = (14, 28, 56)
ROUNDS = 5
LONGEST = 64 * 28 * 28  # pixels of a batch beyond which fixed-point (some hundred passes) is left out
FILE = Path(__file__)
README = FILE.with_name("README.md")
END = "<!-- end of table -->\n"


def build(kind: str, hidden: int, blocks: int) -> ph.models.base.AutoregressiveModel:
    """The shipped weights where they have this size, else random ones; in the layout that is faster."""
    for name in ph.list_pretrained():
        model = ph.load_pretrained(name)
        size = (type(model).__name__, model.settings.get("hidden"), model.settings.get("blocks"))
        if model.card["data"] == "fashion-mnist" and size == (kind, hidden, blocks):
            break
    else:
        torch.manual_seed(0)
        model = getattr(ph, kind)(hidden=hidden, blocks=blocks)
    return model.eval().to(memory_format=torch.channels_last)


def some_label(model) -> int | None:
    return None if model.classes is None else 0


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def some_turns(model, side: int, count: int) -> torch.Tensor:
    """Marks all as known but the pixels of `count` turns, spread evenly over the order of drawing."""
    turn = model.order((side, side))[0]
    chosen = ((torch.arange(count) + 0.5) * len(turn.unique()) / max(count, 1)).long()
    return ~torch.isin(turn, chosen)


def peak_memory(work) -> float | None:
    """MB that the process grew by, at most, while at work. Linux only."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls to what is in use now
    except (OSError, AttributeError):
        return None

    def status(key: str) -> float:
        return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0]) / 1000

    before = status("VmRSS")
    work()
    return round(status("VmHWM") - before, 1)


def forward_of(model, batch: int, side: int, calls: int):
    images = torch.randint(0, 256, (batch, 1, side, side), dtype=torch.uint8)

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(calls):
                model(images, some_label(model))

    return forward


def draw_with(model, batch: int, side: int, method: str, known: torch.Tensor | None = None):
    given = None if known is None else torch.zeros(batch, 1, side, side, dtype=torch.uint8)

    def draw() -> None:
        with warnings.catch_warnings():  # one says that known pixels come after unknown ones
            warnings.simplefilter("ignore")
            keywords = {"given": given, "known": known, "label": some_label(model), "seed": 0, "progress": False}
            ph.sample(model, batch, method=method, shape=(side, side), **keywords)

    return draw


def in_turn(work: dict) -> dict[Any, list[float]]:
    """Seconds of each, all of them round after round, so that all see the same machine."""
    for run in work.values():
        run()
    rounds = [{name: seconds(run) for name, run in work.items()} for _ in range(ROUNDS)]
    return {name: [times[name] for times in rounds] for name in work}


def all_pixels(some: list[float], none: list[float], factor: float) -> list[float]:
    """Seconds for all pixels, from those for some of them and those for a call that draws none."""
    fixed = statistics.median(none)
    return [fixed + (time - fixed) * factor for time in some]


def median_ratio(of: list[float], to: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


def measure(model, batch: int, side: int) -> dict:
    """All methods at one size."""
    once = forward_of(model, batch, side, calls=1)
    once()
    turns = len(model.order((side, side)).unique())
    some = max(4, min(100, turns, int(1.0 / seconds(once))))  # about a second's worth
    known = some_turns(model, side, some)
    in_parts = ("naive", "cropped") if turns == side * side else ("naive",)  # only rows can be cropped
    work = {
        "forward": forward_of(model, batch, side, calls=some),
        **{name: draw_with(model, batch, side, name, known) for name in in_parts},
        "cached": draw_with(model, batch, side, "cached"),
        "nothing": draw_with(model, batch, side, "naive", some_turns(model, side, 0)),
    }
    times = in_turn(work)
    times["forward"] = [time / some for time in times["forward"]]
    for name in in_parts:
        times[name] = all_pixels(times[name], times["nothing"], turns / some)
    del times["nothing"], work["nothing"]
    memory = {name: peak_memory(run) for name, run in (work | {"forward": once}).items()}
    result = {"batch": batch, "side": side, "turns_of_naive": some}
    if model.card is not None and batch * side * side <= LONGEST:
        calls = []
        hook = model.register_forward_hook(lambda *_: calls.append(1))
        run = draw_with(model, batch, side, "fixed-point")
        memory["fixed-point"] = peak_memory(run)
        result["calls_of_fixed_point"] = len(calls)
        hook.remove()
        times["fixed-point"] = [seconds(run)] * ROUNDS  # once: it takes as long as all others together
    methods = [name for name in times if name != "forward"]
    return result | {
        "in_forward_passes": {name: median_ratio(times[name], times["forward"]) for name in methods},
        "faster_than_naive": {name: median_ratio(times["naive"], times[name]) for name in methods},
        "peak_memory_MB": memory,
    }


def growth(model, batch: int) -> dict:
    """How the time of one method grows with the side, in turn at all sides; 1 at the smallest."""
    result = {}
    for method, pixels in (("naive", 8), ("cached", None)):
        work = {}
        for side in SIDES:
            work[side] = draw_with(
                model, batch, side, method, None if pixels is None else some_turns(model, side, pixels)
            )
            if pixels is not None:
                work[side, "nothing"] = draw_with(model, batch, side, method, some_turns(model, side, 0))
        times = in_turn(work)
        if pixels is not None:
            times = {side: all_pixels(times[side], times[side, "nothing"], side * side / pixels) for side in SIDES}
        result[method] = {str(side): median_ratio(times[side], times[SIDES[0]]) for side in SIDES}
        result[f"{method}_28_to_56"] = median_ratio(times[56], times[28])
    return {"batch": batch} | result


def profile(model, batch: int) -> dict[str, float]:
    """Shares of the time of method "cached": what PyTorch's operators take by themselves, and the rest."""
    kinds = {
        "products": ("mm", "addmm_"),
        "softmax, cumulative sum and search": ("_softmax", "cumsum", "searchsorted", "nextafter", "minimum"),
        "biases and ReLU": ("add_", "clamp_min", "clamp_min_", "relu", "relu_"),
        "copies and clearing memory": ("copy_", "fill_", "zero_"),
    }
    run = draw_with(model, batch, 28, "cached")
    run()
    plain = statistics.median(seconds(run) for _ in range(ROUNDS))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        profiled = seconds(run)
    shares = dict.fromkeys([*kinds, "other operators"], 0.0)
    for event in record.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, names in kinds.items() if name in names), "other operators")
        if event.key.startswith("aten::"):
            shares[kind] += event.self_cpu_time_total * 1e-6 / profiled
    shares["Python and what the profiler adds"] = 1 - sum(shares.values())
    return {"batch": batch, "profiled_over_plain": profiled / plain, "shares": shares}


def memory_in_words(peak: dict[str, float | None]) -> str:
    if peak["naive"] is None:
        return "–"
    return f"{peak['naive']:.0f}, {peak['cached']:.0f} MB"


def into_readme(script: Path, table: str) -> None:
    """Puts a script's table between its marks in the README beside this file."""
    mark = f"<!-- table of benchmarks/{script.name} -->\n"
    before, rest = README.read_text(encoding="utf-8").split(mark)
    after = rest[rest.index(END) :]
    README.write_text(before + mark + table + after, encoding="utf-8")


def table(result: dict) -> str:
    """The table for README.md beside this file: 28 x 28 pixels."""
    lines = [
        "| Model | Batch | naive | cropped | fixed-point | **cached** | cached is faster than naive | "
        "memory: naive, cached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["sizes"]:
        if row["side"] == 28:
            passes = row["in_forward_passes"]
            cells = [f"{passes[name]:.0f}" if name in passes else "–" for name in ("naive", "cropped", "fixed-point")]
            lines.append(
                f"| {row['class']}, hidden {row['hidden']}, {row['blocks']} blocks | {row['batch']} | "
                f"{' | '.join(cells)} | "
                f"**{passes['cached']:.1f}** | {row['faster_than_naive']['cached']:.0f}× | "
                f"{memory_in_words(row['peak_memory_MB'])} |"
            )
    return "\n".join(lines) + "\n"


def figure(result: dict):
    """Left: the methods at 28 x 28 pixels. Right: growth with the side."""
    fig, (left, right) = ph.plots.subplots(1, 2, size=(9, 3.6))
    kind, hidden, blocks = PROFILED
    rows = [row for row in result["sizes"] if row["side"] == 28 and row["hidden"] == hidden]
    for name in ("naive", "cropped", "fixed-point", "cached"):
        points = [(row["batch"], row["in_forward_passes"][name]) for row in rows if name in row["in_forward_passes"]]
        left.plot(*zip(*points, strict=True), marker="o", label=name)
    left.set(
        xscale="log", yscale="log", xlabel="images drawn together", ylabel="time / one forward pass", ylim=(0.7, 6000)
    )
    left.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    left.minorticks_off()
    left.set_title(f"28 x 28 pixels, {kind}, hidden {hidden}, {blocks} blocks")
    left.legend(ncols=2, loc="upper center")
    for row in result["growth"]:
        for name in ("naive", "cached"):
            sides = [int(side) for side in row[name]]
            right.plot(sides, row[name].values(), marker="o", label=f"{name}, batch {row['batch']}")
    right.set(xscale="log", yscale="log", xlabel="side in pixels", ylabel=f"time / time at side {SIDES[0]}")
    right.set_xticks(SIDES, [str(side) for side in SIDES])
    right.minorticks_off()
    right.set_title("growth with the side")
    right.legend()
    return fig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", action="store_true", help="only say where the time of the cached method goes")
    parser.add_argument("--model", choices=sorted({kind for kind, *_ in MODELS}), help="measure this class only")
    arguments = parser.parse_args()
    result = {"machine": "", "sizes": [], "growth": [], "profile": []}
    if arguments.profile or arguments.model:
        result = json.loads(FILE.with_suffix(".json").read_text(encoding="utf-8"))
    result["machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    for kind, hidden, blocks in MODELS:
        if arguments.profile or arguments.model not in (None, kind):
            continue
        model = build(kind, hidden, blocks)
        size = {"class": kind, "hidden": hidden, "blocks": blocks}
        result["sizes"] = [row for row in result["sizes"] if not size.items() <= row.items()]
        for side in SIDES if (kind, hidden, blocks) == PROFILED else (28,):
            for batch in BATCHES:
                row = size | measure(model, batch, side)
                result["sizes"].append(row)
                print(
                    f"{kind}, hidden {hidden:3}, {blocks} blocks, side {side}, batch {batch:3}, in forward passes: "
                    + ", ".join(f"{name} {value:.1f}" for name, value in row["in_forward_passes"].items()),
                    flush=True,
                )
    if arguments.profile or arguments.model in (None, PROFILED[0]):
        model = build(*PROFILED)
        result["profile"] = [profile(model, batch) for batch in (1, 64)]
        if not arguments.profile:
            result["growth"] = [growth(model, batch) for batch in (1, 64)]
    write(result)
    print(table(result))


def write(result: dict) -> None:
    FILE.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    FILE.with_suffix(".png").write_bytes(ph.plots.png(figure(result)))
    into_readme(FILE, table(result))


if __name__ == "__main__":
    with ph.hardware.keep_freed_memory():
        main()
