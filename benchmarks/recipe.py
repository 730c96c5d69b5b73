"""What training each family on one GPU would take: parameters, arithmetic, memory; estimates, nothing is trained.

    python benchmarks/recipe.py

Prints the table of "One GPU, not yet run" in README.md beside this file. Arithmetic: the multiply-adds of a forward
pass over one image, counted by PyTorch, times 3 for a training step, times the images. Memory: weights, gradients,
Muon's momentum, the moving average and the best weights so far, 20 bytes a parameter, and what one image's forward pass
keeps for the backward pass, in bfloat16 on a CPU, times the batch; PyTorch itself and its workspaces take one or two
gigabytes more. Time: at 5 tera-multiply-adds a second, a guess at what a card makes of such small convolutions in
bfloat16; gpu.py measures what yours makes of smaller networks.
"""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pixelhelpers.__main__ import MODELS

RATE = 5e12  # multiply-adds a second
IMAGES = {"cifar10": 45_000, "fashion-mnist": 55_000}  # of an epoch
# family, data, hidden, blocks, dropout, batch, rate of Muon, epochs, and the bits per dimension to expect: at most
# those of the shipped weights, smaller networks that saw 0.1 to 0.5 million images
RECIPES = (
    ("plusplus", "cifar10", 160, 5, 0.5, 32, 0.02, 100, "2.92 in the paper, by far more; here 2.95 to 3.05, a guess"),
    ("plusplus", "fashion-mnist", 96, 3, 0.2, 32, 0.02, 40, "below 2.73"),
    ("gated", "fashion-mnist", 128, 12, 0.1, 32, 0.02, 40, "below 2.74"),
    ("pixelcnn", "fashion-mnist", 256, 15, 0.1, 32, 0.02, 40, "below 2.79"),
    ("attention", "fashion-mnist", 128, 6, 0.1, 32, 0.02, 40, "below 2.69"),
    ("multiscale", "fashion-mnist", 144, 8, 0.1, 64, 0.02, 40, "below 2.95"),
)


def multiply_adds(model: torch.nn.Module, x: torch.Tensor) -> int:
    """Of one forward pass."""
    # The fused kernel of attention is not counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // 2


def kept(model: torch.nn.Module, x: torch.Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, the weights not counted."""
    storages = {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage  # held, so that no other takes its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        model.log_prob(x)
    return sum(storage.nbytes() for storage in storages.values())


def row(family, data, hidden, blocks, dropout, batch, rate, epochs, bits) -> str:
    channels, side = (3, 32) if data == "cifar10" else (1, 28)
    model = MODELS[family](image_channels=channels, image_size=side, hidden=hidden, blocks=blocks, dropout=dropout)
    x = torch.randint(256, (1, channels, side, side), dtype=torch.uint8)
    parameters, each = sum(weight.numel() for weight in model.parameters()), multiply_adds(model, x)
    # What a pass keeps beside the images' features, such as weights in bfloat16, is counted once.
    one, two = kept(model, x), kept(model, x.repeat(2, 1, 1, 1))
    memory = 20 * parameters + one + (batch - 1) * (two - one)
    images = epochs * IMAGES[data]
    return (
        f"| {family}, hidden {hidden}, {blocks} blocks, dropout {dropout} | {data} | {batch} | {rate:g} | "
        f"{images / 1e6:.1f} M ({epochs} epochs) | {parameters / 1e6:.1f} M | {each / 1e9:.2f} G | "
        f"{memory / 1e9:.1f} GB | {3 * each * images / RATE / 3600:.1f} h | {bits} |"
    )


def main() -> None:
    columns = [
        "Family",
        "Data",
        "Batch",
        "Rate of Muon",
        "Images",
        "Parameters",
        "Multiply-adds an image",
        "Memory",
        "Time",
    ]
    print("|", " | ".join([*columns, "Test bits/dim"]), "|")
    print("|---" * (len(columns) + 1) + "|")
    for recipe in RECIPES:
        print(row(*recipe), flush=True)


if __name__ == "__main__":
    main()
