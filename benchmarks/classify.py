"""Gated PixelCNN as a classifier by Bayes' rule: 500 test images scored under each of the ten classes.

    python benchmarks/classify.py

With equally many images of each class, p(class | x) is proportional to p(x | class): the class under which
an image costs the fewest bits is named. Prints the share that is right and writes classify.json beside
this file, with all log-likelihoods, for the shipped weights of both data sets. Notebook 08 turns them into
posteriors, and asks how far these can be trusted.
"""

import json
from pathlib import Path

import torch

import pixelhelpers as ph

COUNT = 500


@torch.inference_mode()
def log_likelihoods(model, images: torch.Tensor) -> torch.Tensor:
    """log p(x | class) in nats, `[N, classes]`."""
    parts = [
        torch.stack([model.log_prob(part, label) for label in range(model.classes)], 1) for part in images.split(50)
    ]
    return torch.cat(parts)


def main() -> None:
    result = {}
    for name in ("fashion-mnist", "digits"):
        images = ph.load_images(name, fallback=False)
        model = ph.load_pretrained(f"gated-{name}").to(memory_format=torch.channels_last)
        x, truth = images.test[:COUNT], images.test_labels[:COUNT]
        scores = log_likelihoods(model, x)
        named = scores.argmax(1)
        bits = ph.bits_per_dim(scores.flatten(), x.repeat_interleave(model.classes, 0)).view_as(scores)
        best, second = bits.sort(1).values.mean(0)[:2].tolist()
        result[name] = {
            "right": float((named == truth).float().mean()),
            "bits_under_best_class": best,
            "bits_under_second": second,
            "truth": truth.tolist(),
            "named": named.tolist(),
            "log_likelihoods": [[round(nats, 2) for nats in row] for row in scores.tolist()],
        }
        print(
            f"{name:14} {result[name]['right']:.1%} of {COUNT} test images are named rightly; "
            f"{best:.3f} bits/dim under the best class, {second:.3f} under the second"
        )
    Path(__file__).with_suffix(".json").write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
