"""Numbers that the prose takes from a benchmark are those of its record."""

import json
from pathlib import Path

import pixelhelpers as ph

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def prose(prefix: str) -> str:
    (path,) = NOTEBOOKS.glob(f"{prefix}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return " ".join(" ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown").split())


def test_07_says_what_the_cures_brought_at_the_end_and_at_their_best():
    runs = {(run["data"], run["case"]): run for run in ph.record("overfitting")["runs"]}

    def test_scores(which: str, name: str) -> tuple[str, str]:
        return tuple(f"{runs[name, case][which]['test']:.3f}" for case in ("dropout", "no cure"))

    clothes, digits = (test_scores("last", name) for name in ("fashion-mnist", "digits"))
    at_best = [test_scores("best", name) for name in ("fashion-mnist", "digits")]
    starved = runs["fashion-mnist", "weight decay"]["last"]["test"]
    text = prose("07")
    assert "{} bits per dimension against {} without a cure on the clothes".format(*clothes) in text
    assert "{} against {} on the digits".format(*digits) in text
    assert "it is {} against {}, and {} against {}".format(*at_best[0], *at_best[1]) in text
    assert f"Weight decay on the clothes, with {starved:.3f}, does not" in text
    assert starved > runs["fashion-mnist", "no cure"]["last"]["test"]


def test_11_says_how_far_the_mixture_is_ahead_round_by_round():
    valid = {(run["data"], run["arm"]): run["valid"] for run in ph.record("plusplus")["runs"]}

    def lead(name: str) -> list[float]:
        pairs = zip(valid[name, "softmax"], valid[name, "mixture"], strict=True)
        return [softmax - mixture for softmax, mixture in pairs]

    clothes, digits = lead("fashion-mnist"), lead("digits")
    said = "by {:.3f} bits per dimension after the first, then by {:.3f}, {:.3f}, {:.3f} and {:.3f}".format(*clothes)
    assert said in prose("11") and min(clothes) > 0
    assert f"by {-digits[0]:.3f} and at the end by {-digits[-1]:.3f}" in prose("11") and max(digits) < 0
