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
    def bits(case: str, which: str) -> list[str]:
        """Clothes and digits, means over the seeds."""
        same = [
            [
                run[which]["test"]
                for run in ph.record("overfitting")["runs"]
                if (run["data"], run["case"]) == (name, case)
            ]
            for name in ("fashion-mnist", "digits")
        ]
        assert all(len(scores) == 3 for scores in same)
        return [f"{sum(scores) / 3:.3f}" for scores in same]

    text = prose("07")
    sentences = {
        "last": "{} bits per dimension against {} without a cure on the clothes, and {} against {} on the digits",
        "best": "it is {} against {}, and {} against {}",
    }
    for which, sentence in sentences.items():
        dropout, none = bits("dropout", which), bits("no cure", which)
        assert sentence.format(dropout[0], none[0], dropout[1], none[1]) in text
    decay, none = bits("weight decay", "best"), bits("no cure", "best")
    said = "{} on test images against {} without a cure on the clothes, and {} against {} on the digits"
    assert said.format(decay[0], none[0], decay[1], none[1]) in text


def test_11_says_how_far_the_mixture_is_ahead_score_by_score():
    record = ph.record("plusplus")

    def lead(name: str) -> list[float]:
        """Of the mixture over the softmax, means over the seeds, at each score."""
        mixture, softmax = (
            [
                run["curve"]
                for run in record["runs"]
                if (run["data"], run["arm"], run["optimizer"], run["images"]) == (name, arm, "muon", record["images"])
            ]
            for arm in ("mixture", "softmax")
        )
        assert len(mixture) == len(softmax) == 3
        return [
            (sum(b) - sum(a)) / 3 for a, b in zip(zip(*mixture, strict=True), zip(*softmax, strict=True), strict=True)
        ]

    clothes, digits = lead("fashion-mnist"), lead("digits")
    assert f"their means differ by {abs(clothes[-1]):.3f} bits" in prose("11")
    assert f"by {-digits[0]:.3f} at the first score and by {-digits[-1]:.3f} at the last" in prose("11")


def test_11_says_how_far_the_mixture_is_ahead_in_the_runs_that_chose_the_rates():
    record = ph.record("plusplus")
    mixture, softmax = (
        min(
            run["valid"]
            for run in record["runs"]
            if (run["data"], run["arm"], run["optimizer"], run["images"])
            == ("fashion-mnist", arm, "muon", record["images"] // 4)
        )
        for arm in ("mixture", "softmax")
    )
    assert f"the mixture was ahead by {softmax - mixture:.2f} bits (one seed)" in prose("11")
    assert f"{mixture:.3f} and {softmax:.3f}" in prose("11")
