"""How like real images the samples of the shipped weights are: measured by a classifier's features, with intervals.

    python benchmarks/quality.py             what quality.json beside this file still lacks
    python benchmarks/quality.py --show      figure and table from the record

Each model draws five sets of samples (1,000 clothes or 500 digits each, all classes equally often). The features of
`ph.load_judge` compare each set with validation images: Fréchet distance and kernel distance (0 is best; from
torchmetrics), precision (the share of samples that lie among the real images) and recall (the share of real images that
lie among the samples; k = 3, Kynkäänniemi et al. 2019), and the share of samples that the classifier takes for the
class that was ordered. Sets of training images are measured in the same way: no model can be expected to do better.
A Fréchet distance depends on the size of the sets: compare within one data set only.
"""

import argparse
import json
import statistics
import warnings
from pathlib import Path

import torch
from sampling import into_readme
from torch import Tensor, nn

import pixelhelpers as ph
from pixelhelpers.files import write_atomically

FILE = Path(__file__)
RESULT = FILE.with_suffix(".json")
SETS, NEIGHBOURS = 5, 3
COUNT = {"fashion-mnist": 1_000, "digits": 500}
T_QUANTILE = 2.776  # of Student's distribution, 97.5 %, for five sets
LABELS = {  # and where beside its dot, in points
    "pixelcnn": ("PixelCNN", (7, 5)),
    "gated": ("Gated PixelCNN", (-6, 8)),
    "plusplus": ("PixelCNN++", (-44, 9)),
    "multiscale": ("multiscale", (-22, 8)),
    "attention": ("PixelSNAIL", (-4, -16)),
}
MEASURES = ("frechet", "kernel", "precision", "recall", "recognised")


class Given(nn.Identity):
    """In place of a network that finds features: they are given."""

    num_features = 64


def frechet(real: Tensor, drawn: Tensor) -> float:
    """Fréchet distance of two sets of features, `[N, features]`."""
    from torchmetrics.image.fid import FrechetInceptionDistance  # here, because figure and table do without it

    metric = FrechetInceptionDistance(Given()).set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(drawn, real=False)
    return float(metric.compute())


def kernel(real: Tensor, drawn: Tensor) -> float:
    """Kernel distance (squared maximum mean discrepancy, cubic kernel) of two sets of features, unbiased."""
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it keeps the features, which are few
        metric = KernelInceptionDistance(Given(), subsets=20, subset_size=len(drawn) // 2)
    torch.manual_seed(0)  # for the subsets
    metric.update(real, real=True)
    metric.update(drawn, real=False)
    return float(metric.compute()[0])


def among(points: Tensor, others: Tensor) -> float:
    """The share of `points` that lie nearer to some other point than that one's k-th neighbour of its own set does."""
    radius = torch.cdist(others, others).kthvalue(NEIGHBOURS + 1).values
    return float((torch.cdist(points, others) <= radius).any(1).float().mean())


@torch.inference_mode()
def measure(real: Tensor, images: Tensor, labels: Tensor, judge: nn.Module) -> dict[str, float]:
    """Compares one set of images with the features of real ones, in units of their standard deviation."""
    features = torch.cat([judge.features(part) for part in images.split(500)])
    named = judge.name(features).argmax(1)
    unit = real.std()
    real, features = real / unit, features / unit
    beside = real[: len(features)]
    return {
        "frechet": frechet(real, features),
        "kernel": kernel(real, features),
        "precision": among(features, beside),
        "recall": among(beside, features),
        "recognised": float((named == labels).float().mean()),
    }


def draw(name: str, count: int, number: int) -> tuple[Tensor, Tensor]:
    """One set of samples and the classes that were ordered; a model without classes gets -1."""
    model = ph.load_pretrained(name)
    labels = torch.arange(count) % 10 if model.classes else torch.full((count,), -1)
    images = ph.sample(model, count, label=labels if model.classes else None, seed=1_000 * (number + 1), progress=False)
    return images, labels


def rows_of(result: dict, name: str) -> list[dict]:
    return [row for row in result["rows"] if row["name"] == name]


def run(result: dict) -> None:
    for data, count in COUNT.items():
        images, judge = ph.load_images(data, fallback=False), ph.load_judge(data)
        with torch.inference_mode():
            real = torch.cat([judge.features(part) for part in images.valid.split(500)])
        names = [f"real-{data}", *(name for name in ph.list_pretrained() if name.endswith(data))]
        for name in names:
            for number in range(len(rows_of(result, name)), SETS):
                if name.startswith("real"):
                    part = slice(number * count, (number + 1) * count)
                    drawn, labels = images.train[part], images.train_labels[part]
                else:
                    drawn, labels = draw(name, count, number)
                row = {"name": name, "set": number, "images": count} | measure(real, drawn, labels, judge)
                result["rows"].append(row)
                write(result)
                print(json.dumps(row), flush=True)


def interval(rows: list[dict], measure: str) -> tuple[float, float]:
    """Mean over the sets and the half-width of its 95 % interval."""
    values = [row[measure] for row in rows]
    return statistics.mean(values), T_QUANTILE * statistics.stdev(values) / len(values) ** 0.5


def cell(rows: list[dict], measure: str) -> str:
    if measure == "recognised" and not rows[0][measure]:
        return "no classes"
    mean, half = interval(rows, measure)
    if measure in ("frechet", "kernel"):
        return f"{mean:.2f} ± {half:.2f}"
    return f"{mean:.0%} ± {100 * half:.0f}"


def names_of(result: dict) -> list[str]:
    """Real images first, then the weights from the best Fréchet distance to the worst, one data set after the other."""
    names = {row["name"]: interval(rows_of(result, row["name"]), "frechet")[0] for row in result["rows"]}
    return sorted(names, key=lambda name: (name.endswith("digits"), not name.startswith("real"), names[name]))


def table(result: dict) -> str:
    lines = [
        "| Samples of | Bits/dim (test) | Fréchet distance | Kernel distance | Precision | Recall | Recognised |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names_of(result):
        rows = rows_of(result, name)
        bits = "–" if name.startswith("real") else f"{ph.load_pretrained(name).card['test_bits_per_dim']:.3f}"
        lines.append(f"| {name} | {bits} | " + " | ".join(cell(rows, measure) for measure in MEASURES) + " |")
    return "\n".join(lines) + "\n"


def figure(result: dict):
    """Fréchet distance over bits per dimension, a panel a data set; the band is real images."""
    fig, axes = ph.plots.subplots(1, len(COUNT), size=(9, 3.4))
    for ax, data in zip(axes, COUNT, strict=True):
        mean, half = interval(rows_of(result, f"real-{data}"), "frechet")
        ax.axhspan(mean - half, mean + half, color="0.8", label="real images")
        for kind, (label, beside) in LABELS.items():
            mean, half = interval(rows_of(result, f"{kind}-{data}"), "frechet")
            bits = ph.load_pretrained(f"{kind}-{data}").card["test_bits_per_dim"]
            ax.errorbar(bits, mean, half, fmt="o", capsize=3)
            ax.annotate(label, (bits, mean), xytext=beside, textcoords="offset points")
        ax.set(title=data, xlabel="test bits/dim", yscale="log", ylim=(0.15, 40))
        ax.margins(x=0.2)
    axes[0].legend(loc="upper right")
    axes[0].set_ylabel("Fréchet distance, features")
    return fig


def read() -> dict:
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {"rows": []}


def write(result: dict) -> None:
    rows = ",\n".join("  " + json.dumps(row) for row in result["rows"])
    write_atomically(RESULT, f'{{\n"rows": [\n{rows}\n]\n}}\n'.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", action="store_true", help="figure and table only")
    if not parser.parse_args().show:
        run(read())
    FILE.with_suffix(".png").write_bytes(ph.plots.png(figure(read())))
    into_readme(FILE, table(read()))
    print(table(read()))


if __name__ == "__main__":
    main()
