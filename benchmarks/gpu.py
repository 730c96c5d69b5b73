"""Whether a GPU draws and learns the same as the CPU, how much faster it is, and how much memory it takes.

    python benchmarks/gpu.py                    what gpu.json beside this file still lacks of this GPU
    python benchmarks/gpu.py --part sampling    this part again, the rest as it is
    python benchmarks/gpu.py --compile          training also through torch.compile, at one batch
    python benchmarks/gpu.py --dry-run          the same steps on the CPU with tiny models: tries the script, measures
                                                nothing, and writes a record only where --out says

For each of the five families, without a download:

images     Small random models in float64: every method gives the very images of the CPU, also greedy. The shipped
           weights in float32: images part only where a number lies within 1e-4 of a CDF step, or, greedy, where the
           two likeliest levels are as near; and those drawn inside autocast and with TF32 allowed do no more.
waiting    The shipped weights draw; from the first turn to the last no operation waits for the GPU, neither in
           "cached" (numbers, greedy, temperature with top-p) nor, where a turn is one value, in "naive". The
           preparation before and the copy of the images after may wait, and "fixed-point" asks after each pass
           whether it was the last.
learning   One step's gradients against the CPU's, in float64 and float32; and a short training by Adam on the bundled
           digits in float32, bfloat16 and float16, whose last scores are near those of the CPU's float32. (Earlier
           ones of float16 are not: its loss is scaled by trial, and the first steps are skipped.)
muon       The same short training by Muon.
training   Images a second and memory by batch, in float32 and in what `fit` takes by itself, until memory is out. The
           optimiser is the one that `fit` takes by itself.
sampling   The same of drawing: "cached" by batch, in parts of 128 as `sample` does and all at once; all methods at
           one batch.

The record is of one machine: this GPU, and the PyTorch that ran on it. Records of other machines stay in the file,
under "others".

Only CUDA GPUs can be asked all this. Memory is the most that PyTorch held at a time, weights included. The first
three parts took four minutes on an H200 that did other work beside; the whole, but for the part "muon", takes 6 to 8
minutes on an H100: an estimate. Leave the machine idle meanwhile. Ends with status 1 when something does not hold.
"""

import argparse
import copy
import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor
from trainings import few

import pixelhelpers as ph
from pixelhelpers import sampling
from pixelhelpers.__main__ import MODELS
from pixelhelpers.files import write_atomically

RESULT = Path(__file__).with_suffix(".json")
NEAR = 1e-4  # to a step of a CDF
APART = {"float64": 1e-9, "float32": 1e-3}  # two devices' gradients, by length
BITS = {"no": 0.05, "bf16": 0.1, "fp16": 0.1}  # between scores after the same steps; bfloat16 on a CPU: up to 0.03
RATES = {"adam": 2e-3, "muon": 0.02}  # of the short trainings
HOWS = {"numbers": {}, "greedy": {"greedy": True}, "top-p": {"temperature": 0.8, "top_p": 0.9}}
SEED = 0


class Plan(NamedTuple):
    """What is run: on a GPU, or, to try the script, on the CPU."""

    device: str = "cuda"
    weights: str | None = "fashion-mnist"  # None: small random ones
    side: int = 28
    side_of_equality: int = 16  # of the shipped weights' images
    side_of_small: int = 8
    images: int = 4
    batches: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    batches_on_cpu: tuple[int, ...] = (1, 16, 64)
    batch_of_methods: int = 16  # also that of torch.compile
    fit: tuple[int, int, int] = (32, 256, 4)  # hidden features, training images, epochs
    precisions: tuple[str, ...] = ("no", "bf16", "fp16")
    seconds: float = 0.5  # that steps are timed for
    runs: int = 2  # of which the faster counts


DRY = Plan("cpu", None, 4, 4, 4, 4, (1, 2), (1,), 2, (12, 4, 1), ("no", "bf16"), 0.0, 1)


# -- models and images ------------------------------------------------------------------------------------------------


def small(family: str) -> torch.nn.Module:
    """A random model in float64 whose every part acts."""
    torch.manual_seed(SEED)
    model = MODELS[family](levels=5, hidden=12, blocks=1, image_size=8, classes=3).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.2)
    return model


def shipped(family: str, plan: Plan) -> torch.nn.Module:
    return small(family).float() if plan.weights is None else ph.load_pretrained(f"{family}-{plan.weights}")


def labels(model, count: int) -> Tensor | None:
    return None if model.classes is None else torch.arange(count) % model.classes


def random_images(model, count: int, side: int) -> Tensor:
    shape, generator = (count, 1, side, side), torch.Generator().manual_seed(SEED)
    return torch.randint(model.levels, shape, dtype=torch.uint8, generator=generator)


def draw(model, count: int, side: int, method: str = "cached", device: str = "cpu", **how) -> Tensor:
    model, keywords = model.to(device), {"label": labels(model, count), "seed": SEED, "progress": False}
    return ph.sample(model, count, method=method, shape=(side, side), **keywords, **how)


def methods(model, side: int) -> list[str]:
    """The exact methods that a model offers."""
    offered = []
    for name in sampling.METHODS[1:]:
        try:
            sampling.chosen_method(model, name, (1, side, side))
        except ValueError:
            continue
        offered.append(name)
    return offered


# -- images -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def nearness(model, first: Tensor, second: Tensor, greedy: bool = False) -> float:
    """How far from a tie, at most, the first values are in which images part; 0 where none do."""
    exact, rank = copy.deepcopy(model).cpu().double(), model.order(first.shape[-2:])
    uniform = torch.rand(first.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
    farthest, label = 0.0, labels(model, len(first))
    for k in (first != second).flatten(1).any(1).nonzero()[:, 0].tolist():
        parted = first[k] != second[k]
        at = parted & (rank == rank[parted].min())
        pmf = exact.predict(second[k : k + 1], None if label is None else label[k : k + 1]).pmf()[0][at]
        two = pmf.topk(2).values
        far = two[:, 0] - two[:, 1] if greedy else (pmf.cumsum(-1) - uniform[k][at][:, None]).abs().amin(-1)
        farthest = max(farthest, float(far.max()))
    return farthest


def drawn_without_mass(device: str) -> int:
    """How often a level of probability 0 is drawn by numbers just above a step: other sums go wrong there."""
    generator = torch.Generator().manual_seed(SEED)
    pmf = torch.rand(20_000, 256, generator=generator) * (torch.rand(20_000, 256, generator=generator) < 0.5)
    pmf = pmf / pmf.sum(-1, keepdim=True)
    steps = pmf.double().cumsum(-1).gather(1, torch.randint(255, (20_000, 1), generator=generator))[:, 0]
    numbers = (steps + 1e-10).clamp(max=1 - 1e-9)
    drawn = sampling.draw(pmf.to(device), numbers.to(device)).cpu()
    return int((pmf.gather(1, drawn[:, None]) == 0).sum())


def images(family: str, plan: Plan) -> dict:
    model, side, unequal = small(family), plan.side_of_small, []
    for how in ("numbers", "greedy"):
        expected = draw(model, plan.images, side, "naive", **HOWS[how])
        if len(expected.unique()) < 2:
            unequal.append(f"{how}: all values are alike, which shows nothing")
        for method in methods(model, side):
            if not torch.equal(expected, draw(model, plan.images, side, method, plan.device, **HOWS[how])):
                unequal.append(f"{how}: {method}")
    model, side, farthest, parted = shipped(family, plan), plan.side_of_equality, {}, 0
    for how in ("numbers", "greedy"):
        of = partial(draw, model, plan.images, side, **HOWS[how])
        drawn = {method: of(method, plan.device) for method in methods(model, side)}
        with torch.autocast(plan.device, torch.bfloat16):
            torch.set_float32_matmul_precision("medium")
            drawn["cached inside autocast"] = of("cached", plan.device)
            torch.set_float32_matmul_precision("highest")
        drawn["cached on the CPU"] = of("cached", "cpu")
        expected = drawn.pop("naive")
        for name, other in drawn.items():
            parted += int((other != expected).flatten(1).any(1).sum())
            farthest[f"{how}: {name}"] = nearness(model, expected, other, how == "greedy")
    without_mass = drawn_without_mass(plan.device)
    return {
        "methods": methods(model, side),
        "float64_unequal": unequal,
        "float32_pairs": len(farthest) * plan.images,
        "float32_parted": parted,
        "float32_farthest_from_a_tie": farthest,
        "drawn_without_mass": without_mass,
        "holds": not unequal and not without_mass and max(farthest.values()) < NEAR,
    }


# -- waiting ----------------------------------------------------------------------------------------------------------


def waits(work: Callable[[], object], device: str) -> str | None:
    """What PyTorch says of the first operation of the work that waits for the GPU; None if there is none."""
    if device != "cuda":  # nothing to wait for
        work()
        return None
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")


@torch.inference_mode()
def waiting(family: str, plan: Plan) -> dict:
    model, side, count = shipped(family, plan).to(plan.device), plan.side_of_small, plan.images
    label = model.labels(labels(model, count), count)
    x = torch.zeros(count, 1, side, side, dtype=torch.uint8, device=plan.device)
    uniform = torch.rand(x.shape, dtype=torch.float64, device=plan.device)
    wave = model.fronts(count, (1, side, side), like=next(model.parameters()))
    numbers = wave.by_front(uniform)

    def turns(step, how: dict) -> None:
        for front in wave:
            step.put(front, sampling.draw(step.predict(front).pmf(), numbers[0, front.pixels].flatten(), **how))

    found = {}
    with ph.hardware.full_precision(torch.device(plan.device)):  # as `sample` does
        for name, how in HOWS.items():
            found[f"cached, {name}"] = waits(partial(turns, model.stepper(wave, label), how), plan.device)
        if len(model.order((side, side)).unique()) == side * side:
            bar = SimpleNamespace(update=lambda done: None)
            job = sampling._Job(model, x, None, label, uniform, sampling.draw, bar, None)
            found["naive"] = waits(partial(sampling._naive, job), plan.device)
    planted = waits(uniform.sum().item, plan.device)
    return {
        "turns": len(list(wave)),
        "waits": found,
        "planted": planted,
        "holds": not any(found.values()) and (planted is not None or plan.device != "cuda"),
    }


# -- learning ---------------------------------------------------------------------------------------------------------


def gradients(model, x: Tensor, device: str) -> Tensor:
    """All of them in a row, of a step in full precision."""
    model = copy.deepcopy(model).to(device)
    with ph.hardware.full_precision(torch.device(device)):
        loss = -model.log_prob(x.to(device), model.labels(labels(model, len(x)), len(x))).sum() / x.numel()
        loss.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters()]).double().cpu()


def scores(family: str, plan: Plan, device: str, precision: str, optimizer: str) -> list[float]:
    """Of training images and of validation images after each epoch of a short training on the bundled digits."""
    hidden, count, epochs = plan.fit
    digits, low = few(ph.load_images("digits"), count, count), (28 - plan.side) // 2
    middle = (..., slice(low, low + plan.side), slice(low, low + plan.side))
    parts = {part: getattr(digits, part)[middle] for part in ("train", "valid", "test")}
    digits = dataclasses.replace(digits, **parts)
    torch.manual_seed(SEED)
    model = MODELS[family](hidden=hidden, blocks=1, image_size=plan.side)
    keywords = {
        "epochs": epochs,
        "optimizer": optimizer,
        "batch_size": 16,
        "lr": RATES[optimizer],
        "ema": 0.9,
        "seed": SEED,
        "progress": False,
    }
    history = ph.fit(model, digits, device=device, precision=precision, **keywords)
    return [row[part] for row in history for part in ("train", "valid")]


def short_training(family: str, plan: Plan, optimizer: str) -> dict:
    """Scores here and on the CPU, and how far the last ones are apart."""
    expected = scores(family, plan, "cpu", "no", optimizer)
    curves = {precision: scores(family, plan, plan.device, precision, optimizer) for precision in plan.precisions}
    off = {
        precision: max(abs(a - b) for a, b in zip(expected[-2:], curve[-2:], strict=True))
        for precision, curve in curves.items()
    }
    return {
        "scores_on_cpu": expected,
        "scores": curves,
        "scores_apart": off,
        "holds": all(off[name] < BITS[name] for name in off),
    }


def learning(family: str, plan: Plan) -> dict:
    apart = {}
    for name, model in (("float64", small(family)), ("float32", shipped(family, plan))):
        x = random_images(model, plan.images, plan.side_of_small)
        of_cpu, of_gpu = (gradients(model, x, device) for device in ("cpu", plan.device))
        apart[name] = float((of_cpu - of_gpu).norm() / of_cpu.norm())
    trained = short_training(family, plan, "adam")
    near = all(apart[name] < APART[name] for name in apart)
    return {"gradients_apart": apart, **trained, "holds": near and trained["holds"]}


# -- speed and memory -------------------------------------------------------------------------------------------------


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measured(work: Callable[[], float], device: str) -> dict:
    """What the work says it took, in seconds, and the memory; or that there was not enough of it."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        seconds = work()
    except torch.OutOfMemoryError:
        return {"out_of_memory": True}
    memory = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else None
    return {"seconds": seconds, "memory_MB": memory}


def step_time(model, batch: int, device: str, precision: str, compiled: bool, plan: Plan) -> float:
    """Seconds of a step like those of `fit`, by the optimiser and the rate that it takes by itself."""
    model, recipe = copy.deepcopy(model).to(device).train(), model.recipes[0]
    optimizer = ph.training.make_optimizer(model, recipe.optimizer, recipe.lr)
    x, label = random_images(model, batch, plan.side).to(device), model.labels(labels(model, batch), batch)
    log_prob = torch.compile(model.log_prob) if compiled else model.log_prob
    short = torch.float16 if precision == "fp16" else torch.bfloat16

    def step() -> None:
        with torch.autocast(device, short, enabled=precision != "no"):
            loss = -log_prob(x, label).sum() / x.numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step()
    start = now(device)
    step()
    steps = max(2, int(plan.seconds / (now(device) - start)))
    start = now(device)
    for _ in range(steps):  # a GPU may fall behind: it is waited for at the end
        step()
    return (now(device) - start) / steps


def training(family: str, plan: Plan, compile: bool = False) -> dict:
    model, rows = shipped(family, plan), []

    def add(on: str, precision: str, batch: int, compiled: bool = False) -> bool:
        device = plan.device if on == "gpu" else "cpu"
        found = measured(lambda: step_time(model, batch, device, precision, compiled, plan), device)
        rows.append({"on": on, "precision": precision, "compiled": compiled, "batch": batch, **found})
        return report(family, "training", rows[-1])

    default = ph.hardware.default_precision(plan.device)
    for batch in plan.batches_on_cpu:
        add("cpu", ph.hardware.default_precision("cpu"), batch)
    for precision in dict.fromkeys(("no", default)):
        for batch in plan.batches:
            if not add("gpu", precision, batch):
                break
    if compile:
        add("gpu", default, plan.batch_of_methods, compiled=True)
    return {"parameters": sum(weight.numel() for weight in model.parameters()), "rows": faster(rows)}


def drawing(family: str, plan: Plan) -> dict:
    model, rows, usual = shipped(family, plan), [], sampling.PIXELS

    def add(on: str, method: str, batch: int, runs: int = 1, at_once: bool = False) -> bool:
        device = plan.device if on == "gpu" else "cpu"

        def run() -> float:
            start = now(device)
            draw(model, batch, plan.side, method, device)
            return now(device) - start

        sampling.PIXELS = batch * plan.side**2 if at_once else usual
        try:
            found = measured(lambda: min(run() for _ in range(runs)), device)
        finally:
            sampling.PIXELS = usual
        rows.append({"on": on, "method": method, "batch": batch, "at_once": at_once, **found})
        return report(family, "sampling", rows[-1])

    for batch in plan.batches_on_cpu:
        add("cpu", "cached", batch)
    for method in methods(model, plan.side):
        if method != "cached":
            add("gpu", method, plan.batch_of_methods)
    for batch in plan.batches:
        add("gpu", "cached", batch, plan.runs if batch * plan.side**2 <= usual else 1)
    for batch in plan.batches:
        if batch * plan.side**2 > usual and not add("gpu", "cached", batch, at_once=True):
            break
    of = {row["method"]: row["seconds"] for row in timed(rows, "gpu") if row["batch"] == plan.batch_of_methods}
    return {"faster_than_naive": {name: of["naive"] / seconds for name, seconds in of.items()}, "rows": faster(rows)}


def timed(rows: list[dict], on: str) -> list[dict]:
    """The rows of this place for which there was memory enough."""
    return [row for row in rows if row["on"] == on and "seconds" in row]


def faster(rows: list[dict]) -> list[dict]:
    """Adds images a second, and how many times as many that is as the CPU does at the best of its batches."""
    best = max(row["batch"] / row["seconds"] for row in timed(rows, "cpu"))
    for row in timed(rows, "cpu") + timed(rows, "gpu"):
        row["images_per_second"] = row["batch"] / row["seconds"]
        row["times_the_cpu"] = row["images_per_second"] / best
    return rows


def in_words(row: dict) -> str:
    """Which way of working a row is of."""
    extra = [name.replace("_", " ") for name in ("compiled", "at_once") if row.get(name)]
    return ", ".join([row.get("method") or f"precision {row['precision']}", *extra])


def report(family: str, part: str, row: dict) -> bool:
    """Prints a row; says whether there was memory enough."""
    speed = f"{row['batch'] / row['seconds']:9.1f} images/s" if "seconds" in row else "out of memory"
    memory = f", {row['memory_MB']:,.0f} MB" if row.get("memory_MB") else ""
    print(f"{part} {family:10} {row['on']} {in_words(row):12} batch {row['batch']:4}: {speed}{memory}", flush=True)
    return "seconds" in row


# -- the record -------------------------------------------------------------------------------------------------------

PARTS = {
    "images": images,
    "waiting": waiting,
    "learning": learning,
    "muon": partial(short_training, optimizer="muon"),
    "training": training,
    "sampling": drawing,
}


def table(record: dict) -> str:
    """Speed and memory on the GPU, by batch."""
    lines = [
        "| Work | Model | Batch | Images/s | Times the CPU's best | Memory |",
        "|---|---|---|---|---|---|",
    ]
    for part in ("training", "sampling"):
        for family, found in record[part].items():
            for row in timed(found["rows"], "gpu"):
                memory = "–" if row["memory_MB"] is None else f"{row['memory_MB']:,.0f} MB"
                lines.append(
                    f"| {part}, {in_words(row)} | {family} | {row['batch']} | {row['images_per_second']:,.1f} | "
                    f"{row['times_the_cpu']:.1f}× | {memory} |"
                )
    return "\n".join(lines)


def machine(plan: Plan) -> str:
    gpu = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if plan.device == "cuda" else "a dry run"
    return f"{gpu}; {platform.machine()}, {torch.get_num_threads()} threads; PyTorch {torch.__version__}"


def read(path: Path | None, name: str) -> tuple[dict, list[dict]]:
    """The record of the machine of this name, new if there is none; and those of other machines."""
    there = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else {}
    others = there.pop("others", [])
    records = [there, *others] if there else []
    own = [record for record in records if record["machine"] == name]
    return own[0] if own else {"machine": name}, [record for record in records if record not in own]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help="this part only, measured again")
    parser.add_argument("--compile", action="store_true", help="train through torch.compile, too")
    parser.add_argument("--dry-run", action="store_true", help="tiny models on the CPU; measures nothing")
    parser.add_argument("--out", type=Path, help="the record; by default gpu.json, of a dry run none")
    options = parser.parse_args(arguments)
    plan, there = DRY if options.dry_run else Plan(), ph.default_device().type
    if plan.device not in ("cpu", there):
        print(
            f"this needs a CUDA GPU, and the best device here is {there!r}: nothing was measured. (MPS has no float64 "
            "and tells neither its peak memory nor when it is waited for.) --dry-run tries the script on the CPU.",
            file=sys.stderr,
        )
        return 1
    out = options.out or (None if options.dry_run else RESULT)
    if options.dry_run and out is not None and out.resolve() == RESULT.resolve():
        parser.error(f"a dry run measures nothing: give another file than {RESULT.name}.")
    record, others = read(out, machine(plan))
    for part in PARTS:
        if part not in record or part == options.part:
            record[part] = {}
    for part, measure in PARTS.items():
        for family in MODELS:
            if options.part not in (None, part) or record[part].get(family, {"holds": False}).get("holds", True):
                continue  # what did not hold is asked again
            start = time.perf_counter()
            extra = {"compile": True} if part == "training" and options.compile else {}
            record[part][family] = measure(family, plan, **extra)
            holds = record[part][family].get("holds")
            verdict = "measured" if holds is None else "holds" if holds else f"DOES NOT HOLD: {record[part][family]}"
            print(f"{part:8} {family:10} {verdict} ({time.perf_counter() - start:.0f} s)", flush=True)
            if out is not None:
                write_atomically(out, (json.dumps(record | {"others": others}, indent=2) + "\n").encode())
    print(table(record))
    failed = [
        f"{part} of {family}" for part in PARTS for family, row in record[part].items() if not row.get("holds", True)
    ]
    print(f"does not hold: {', '.join(failed)}" if failed else "all that was asked holds")
    return int(bool(failed))


if __name__ == "__main__":
    with ph.hardware.keep_freed_memory():
        sys.exit(main())
