"""How much faster several processes train than one, on the cores of this machine.

    python benchmarks/processes.py     leave the machine idle meanwhile

The same network takes the same steps (64 images, Gated PixelCNN, float32) in one process on one core, in one process
on all cores, and in a process for each core, started by torchrun. Rounds of the three alternate; times are of a second
epoch, so that starting up does not count. Prints a table and writes it to
README.md beside this file, its record to processes.json.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from sampling import into_readme

import pixelhelpers as ph
from pixelhelpers.files import write_atomically

FILE = Path(__file__)
ROUNDS, IMAGES, BATCH = 5, 640, 64


def worker(result: Path) -> None:
    """Trains two epochs, with the other processes if there are any, and writes what the second one took."""
    digits = ph.load_images("digits")
    few = replace(
        digits,
        train=digits.train[:IMAGES],
        train_labels=digits.train_labels[:IMAGES],
        valid=digits.valid[:2],
        valid_labels=digits.valid_labels[:2],
    )
    torch.manual_seed(0)
    model = ph.GatedPixelCNN(hidden=48, blocks=4)
    keywords = {"optimizer": "adam", "lr": 1e-3, "batch_size": BATCH, "device": "cpu", "precision": "no"}
    history = ph.fit(model, few, epochs=2, progress=False, **keywords)
    if ph.processes.launched().rank == 0:
        result.write_text(str(history[1]["seconds"] - history[0]["seconds"]))


def run(processes: int, threads: int) -> float:
    """Seconds of an epoch in so many processes with so many threads each."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "seconds"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        program = launch if processes > 1 else [sys.executable]
        env = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run([*program, str(FILE), str(result)], check=True, env=env, stderr=subprocess.DEVNULL)
        return float(result.read_text())


def table(record: dict) -> str:
    """The table for README.md beside this file."""
    lines = ["| | Times as fast, median | From | To |", "|---|---|---|---|"]
    for name, values in record["times_as_fast"].items():
        lines.append(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    cores = os.cpu_count() or 1
    arms = {
        "one process, one core": (1, 1),
        "one process, all cores": (1, cores),
        f"{cores} processes, a core each": (cores, 1),
    }
    rounds = [{name: run(*arm) for name, arm in arms.items()} for _ in range(ROUNDS)]
    first, *_ = arms
    ratios = {name: [times[first] / times[name] for times in rounds] for name in arms}
    record = {
        "times_as_fast": ratios,
        "seconds_of_an_epoch": rounds,
        "images": IMAGES,
        "batch": BATCH,
        "machine": f"{platform.machine()}, {cores} cores, PyTorch {torch.__version__}",
    }
    write_atomically(FILE.with_suffix(".json"), (json.dumps(record, indent=1) + "\n").encode())
    into_readme(FILE, table(record))
    print(table(record))


if __name__ == "__main__":
    worker(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
