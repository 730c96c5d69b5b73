"""Trains the two small classifiers that `ph.load_judge` loads: of clothes, and of the bundled digits.

    python benchmarks/judge.py

Training images only, moved by up to two pixels; Adam, one-cycle rate, a fixed seed. Prints the share of validation
images that is named rightly and writes half-precision weights into the package.
"""

import torch
from torch.nn import functional as F

import pixelhelpers as ph
from pixelhelpers.data import random_shift
from pixelhelpers.files import write_weights
from pixelhelpers.judging import Judge
from pixelhelpers.models.pretrained import PRETRAINED

EPOCHS = {"fashion-mnist": 8, "digits": 40}
BATCH, RATE, SEED = 64, 2e-3, 0


def train(images: ph.Images, epochs: int) -> Judge:
    torch.manual_seed(SEED)
    judge, count = Judge(), len(images.train)
    steps = epochs * (count // BATCH)
    optimizer = torch.optim.Adam(judge.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(count)
        for number in range(count // BATCH):
            pick = order[number * BATCH : (number + 1) * BATCH]
            loss = F.cross_entropy(judge(random_shift(images.train[pick], most=2)), images.train_labels[pick])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval()


@torch.inference_mode()
def right(judge: Judge, images: ph.Images) -> float:
    """The share of validation images that is named rightly."""
    named = torch.cat([judge(part).argmax(1) for part in images.valid.split(500)])
    return float((named == images.valid_labels).float().mean())


def main() -> None:
    for data, epochs in EPOCHS.items():
        images = ph.load_images(data, fallback=False)
        judge = train(images, epochs)
        write_weights(
            PRETRAINED / f"judge-{data}.safetensors",
            {name: weight.half() for name, weight in judge.state_dict().items()},
        )
        print(
            f"{data:14} {right(ph.load_judge(data), images):.1%} of {len(images.valid)} validation images", flush=True
        )


if __name__ == "__main__":
    main()
