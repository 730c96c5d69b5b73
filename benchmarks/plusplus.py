"""What in PixelCNN++ earns its place: the mixture against a softmax, and how the weights begin.

    python benchmarks/plusplus.py

The same network on the same images in the same order, 5 times 3,000 of them, scored after each round on 1,000
validation images. The arms: the mixture of logistics, as shipped; a softmax over 256 levels in its place; the
mixture with all components begun at random around the middle; and the mixture with weight normalisation and
initialisation from data, as in the authors' code. Finished runs are kept in plusplus.json beside this file: start it
again and it goes on with the missing ones.
"""

import json
import platform
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from trainings import few

import pixelhelpers as ph
from pixelhelpers.models.heads import SoftmaxHead

RESULT = Path(__file__).with_suffix(".json")
IMAGES, ROUNDS, SEED = 3_000, 5, 0
SIZE = {"hidden": 32, "blocks": 1}


class LinearSoftmax(nn.Conv2d):
    """A head of one layer, as the mixture's, that gives 256 logits in place of a mixture's parameters."""

    conditionals, log_prob = staticmethod(SoftmaxHead.conditionals), staticmethod(SoftmaxHead.log_prob)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(F.elu(features).to(self.weight.dtype))


class WithSoftmax(ph.PixelCNNPlusPlus):
    """PixelCNN++ with this head."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.head = LinearSoftmax(self.head.in_channels, self.levels, 1)


def shipped(_: Tensor) -> nn.Module:
    return ph.PixelCNNPlusPlus(**SIZE)


def softmax(_: Tensor) -> nn.Module:
    return WithSoftmax(**SIZE)


def together(_: Tensor) -> nn.Module:
    model = ph.PixelCNNPlusPlus(**SIZE)
    model.head.reset_parameters()
    return model


def normalised(images: Tensor) -> nn.Module:
    """Weight normalisation, and a first pass that gives every feature mean 0 and the variance of the authors' code."""
    model = ph.PixelCNNPlusPlus(**SIZE)
    convolutions = {
        name: layer
        for name, layer in model.hourglass.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    } | {name: getattr(model, name) for name in ("above", "beside_above", "beside")}
    for layer in convolutions.values():
        nn.init.normal_(layer.weight, std=0.05)
        weight_norm(layer, dim=1 if isinstance(layer, nn.ConvTranspose2d) else 0)

    def initialise(scale: float):
        @torch.no_grad()
        def hook(layer: nn.Module, _, out: Tensor) -> Tensor:
            factor = scale / (out.std((0, 2, 3)) + 1e-6)
            length = layer.parametrizations.weight.original0
            length.mul_(factor.view_as(length))
            shift = out.mean((0, 2, 3)) if layer.bias is not None else torch.zeros_like(factor)
            if layer.bias is not None:
                layer.bias.sub_(shift).mul_(factor)
            return (out - shift[:, None, None]) * factor[:, None, None]

        return hook

    hooks = [
        layer.register_forward_hook(initialise(0.1 if name.endswith("gates") else 1.0))
        for name, layer in convolutions.items()
    ]
    with torch.no_grad():
        model(images[:64])
    for hook in hooks:
        hook.remove()
    return model


ARMS = {
    "mixture": shipped,
    "softmax": softmax,
    "mixture, means begin together": together,
    "mixture, weight norm and data-dependent start": normalised,
}
RUNS = {"fashion-mnist": list(ARMS), "digits": list(ARMS)[:2]}


def main() -> None:
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {"runs": []}
    result |= {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}",
        "precision": ph.hardware.default_precision(ph.default_device().type),
        "images": IMAGES,
        "size": SIZE,
    }
    for data, arms in RUNS.items():
        images = few(ph.load_images(data, fallback=False), IMAGES, 1_000)
        for arm in arms:
            if any((run["data"], run["arm"]) == (data, arm) for run in result["runs"]):
                continue
            torch.manual_seed(SEED)
            model = ARMS[arm](images.train)
            start = time.perf_counter()
            history = ph.fit(
                model, images, epochs=ROUNDS, optimizer="adam", batch_size=16, lr=2e-3, seed=SEED, progress=False
            )
            run = {
                "data": data,
                "arm": arm,
                "parameters": sum(weight.numel() for weight in model.parameters()),
                "valid": [epoch["valid"] for epoch in history],
                "seconds": time.perf_counter() - start,
            }
            print(f"{data:14} {arm:46}: " + " ".join(f"{bits:.3f}" for bits in run["valid"]), flush=True)
            result["runs"].append(run)
            RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
