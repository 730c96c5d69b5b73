"""How long it takes to draw one picture, and a batch, against another state of this project.

    git worktree add ../before 51207d9
    python benchmarks/one_picture.py --against ../before

draws with the shipped weights, by method "cached", in two processes: one imports the package from this
checkout, the other one from that. They draw in turn, round after round, so that both see the same machine;
the ratio of each round's times is taken, and the median of all ratios given, with the two quartiles.
Prints what it finds, writes one_picture.json and its table in README.md beside this file. Leave the
machine idle meanwhile.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from sampling import into_readme

import pixelhelpers as ph

MODELS = ("pixelcnn", "gated", "plusplus", "multiscale", "attention")
ROUNDS = {1: 61, 64: 9}  # by batch
FILE = Path(__file__).resolve()


class Drawer:
    """A process that draws on request, with the package of one checkout."""

    def __init__(self, checkout: Path):
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        command = [sys.executable, str(FILE), "--draw-for", str(checkout)]
        self.process = subprocess.Popen(
            command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, name: str, batch: int) -> float:
        print(name, batch, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate()


def draw_on_request(checkout: Path) -> None:
    """Reads lines "name batch", writes seconds."""
    if checkout not in Path(ph.__file__).parents:
        raise SystemExit(f"pixelhelpers comes from {ph.__file__}, not from {checkout}.")
    models = {}
    for line in sys.stdin:
        name, batch = line.split()
        model = models.setdefault(name, ph.load_pretrained(name))
        label = None if model.classes is None else 0
        start = time.perf_counter()
        ph.sample(model, int(batch), method="cached", label=label, seed=0, progress=False)
        print(time.perf_counter() - start, flush=True)


def compare(new: Drawer, old: Drawer, name: str, batch: int, rounds: int) -> dict:
    for drawer in (new, old):
        drawer.seconds(name, batch)
    times = [(new.seconds(name, batch), old.seconds(name, batch)) for _ in range(rounds)]
    lower, ratio, upper = statistics.quantiles([ours / theirs for ours, theirs in times], n=4)
    new_ms, old_ms = (round(1000 * statistics.median(column), 1) for column in zip(*times, strict=True))
    row = {"model": name, "batch": batch, "new_over_old": ratio, "quartiles": [lower, upper]}
    return row | {"new_ms": new_ms, "old_ms": old_ms, "rounds": rounds}


def table(record: dict) -> str:
    """The table for README.md beside this file: new time over old time, and its quartiles."""
    lines = ["| Model | " + " | ".join(f"Batch {batch}, {rounds} rounds" for batch, rounds in ROUNDS.items()) + " |"]
    lines.append("|---" * (1 + len(ROUNDS)) + "|")
    for name in dict.fromkeys(row["model"] for row in record["rows"]):
        rows = {row["batch"]: row for row in record["rows"] if row["model"] == name}
        cells = [
            "{:.2f} ({:.2f}–{:.2f})".format(rows[batch]["new_over_old"], *rows[batch]["quartiles"]) for batch in ROUNDS
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def commit(checkout: Path) -> str:
    words = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="the other checkout")
    parser.add_argument("--model", choices=MODELS, help="this one only, and no record")
    parser.add_argument("--data", default="fashion-mnist", help="which of the shipped weights")
    parser.add_argument("--batch", type=int, choices=ROUNDS, help="this one only, and no record")
    parser.add_argument("--draw-for", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.draw_for:
        with ph.hardware.keep_freed_memory():
            return draw_on_request(arguments.draw_for)
    if arguments.against is None:
        parser.error("give --against, the path of another checkout")
    new, old = Drawer(FILE.parents[1]), Drawer(arguments.against.resolve())
    rows = []
    for model in MODELS if arguments.model is None else [arguments.model]:
        for batch in ROUNDS if arguments.batch is None else [arguments.batch]:
            row = compare(new, old, f"{model}-{arguments.data}", batch, ROUNDS[batch])
            rows.append(row)
            quartiles = "{:.2f} to {:.2f}".format(*row["quartiles"])
            print(
                f"{row['model']:24} batch {batch:3}: {row['new_over_old']:.2f} of the time ({quartiles}), "
                f"{row['new_ms']:.0f} ms instead of {row['old_ms']:.0f} ms",
                flush=True,
            )
    new.end()
    old.end()
    if arguments.model is arguments.batch is None and arguments.data == "fashion-mnist":
        commits = {"commit": commit(FILE.parent), "against": commit(arguments.against)}
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
        record = {"machine": machine, **commits, "rows": rows}
        FILE.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        into_readme(FILE, table(record))


if __name__ == "__main__":
    main()
