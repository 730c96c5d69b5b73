"""The command line, `python -m pixelhelpers train | evaluate | sample`: `main`."""

import argparse
import functools
import json
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch

from . import data, grids, hardware, models, processes, sampling, scoring, training
from .errors import DataError, require
from .files import write_atomically
from .models.base import AutoregressiveModel

_PACKAGE = Path(__file__).parent
MODELS = {
    "attention": models.PixelSNAIL,
    "gated": models.GatedPixelCNN,
    "multiscale": models.MultiscalePixelCNN,
    "pixelcnn": models.PixelCNN,
    "plusplus": models.PixelCNNPlusPlus,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 done, 1 could not be done, 130 interrupted.

    Arguments:
        arguments: the words after `python -m pixelhelpers`; None takes them from the command line.
    """
    options = _parser().parse_args(arguments)
    processes.launched()  # of `torchrun`: each takes its GPU
    try:
        return options.run(options)
    except (DataError, ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped, as asked", file=sys.stderr)
        return 130


DATA = {
    "--data": {
        "default": "fashion-mnist",
        "help": "fashion-mnist, mnist, cifar10 or digits; or your own: a folder of pictures, an .npy or .npz file",
    },
    "--size": {"type": int, "help": "side of a folder's pictures in pixels; by default that of given weights"},
    "--channels": {"type": int, "help": "1 for grey, 3 for colour, of a folder's pictures; by default as --size, or 1"},
    "--root": {"help": "folder of the published data sets"},
}
WEIGHTS = {"weights": {"help": f"a folder, or one of: {', '.join(models.list_pretrained())}"}}
DEVICE = {"--device": {"help": "cuda, mps or cpu; by default the best there is"}}
NETWORK = {
    "--hidden": {"type": int, "help": "number of features"},
    "--blocks": {"type": int, "help": "number of residual blocks"},
    "--dropout": {"type": float, "help": "probability of dropping a feature in training"},
    "--conditional": {"action": "store_true", "help": "condition on the class labels"},
    "--softmax": {"action": "store_true", "help": "attention: a softmax in place of the mixture"},
}
TRAINING = {
    "--epochs": {"type": int, "required": True},
    "--optimizer": {"choices": training.OPTIMIZERS, "help": "by default that of the model's recipe"},
    "--batch-size": {"type": int, "help": "images per step; by default the recipe's"},
    "--lr": {"type": float, "help": "highest learning rate; by default the recipe's"},
    "--weight-decay": {"type": float, "default": 0.0},
    "--clip": {"type": float, "default": 1.0, "help": "largest norm of the gradient"},
    "--ema": {"type": float, "default": 0.999, "help": "decay of the weights' moving average"},
    "--patience": {"type": int, "help": "scores without improvement before stopping"},
    "--seconds": {"type": float, "help": "stop after this much training time"},
    "--scores-per-epoch": {"type": int, "default": 1, "help": "score and save so often in each epoch"},
    "--shift": {"type": int, "default": 0, "help": "shift training images at random, by at most so many pixels"},
    "--seed": {"type": int, "default": 0},
    **DEVICE,
    "--precision": {"choices": hardware.PRECISIONS, "help": "by default mixed where that is faster"},
    "--compile": {"action": "store_true", "help": "use torch.compile"},
    "--tensorboard": {"action": "store_true", "help": "log to the folder's tensorboard/"},
}
SAMPLING = {
    "--out": {"required": True, "help": "the PNG file to write"},
    "--count": {"type": int, "default": 16},
    "--label": {"type": int, "nargs": "+", "help": "class or classes, for weights with classes: a row each"},
    "--method": {"default": "auto", "choices": sampling.METHODS},
    "--temperature": {"type": float, "default": 1.0},
    "--top-p": {"type": float},
    "--greedy": {"action": "store_true"},
    "--seed": {"type": int, "default": 0},
    **DEVICE,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pixelhelpers", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    train = commands.add_parser("train", help="train a model and write its weights and record")
    train.set_defaults(run=_train)
    which = {
        "--model": {"choices": sorted(MODELS), "help": "by default pixelcnn"},
        "--folder": {"required": True, "help": "where checkpoints and the record go"},
        "--resume": {"action": "store_true", "help": "go on from the folder's last checkpoint"},
        "--from": {
            "dest": "begin",
            "metavar": "WEIGHTS",
            "help": "begin with these: a folder, or the name of shipped ones",
        },
    }
    _add(train, which, network=NETWORK, data=DATA, training=TRAINING)

    evaluate = commands.add_parser("evaluate", help="score weights in bits per dimension")
    evaluate.set_defaults(run=_evaluate)
    split = {"--split": {"choices": ("train", "valid", "test"), "default": "valid"}}
    _add(evaluate, WEIGHTS | split, data=DATA)

    sample = commands.add_parser("sample", help="draw images into a PNG file")
    sample.set_defaults(run=_sample)
    _add(sample, WEIGHTS | SAMPLING)
    return parser


def _add(parser: argparse.ArgumentParser, options: dict[str, dict], **groups: dict[str, dict]) -> None:
    """Gives a command its options, first those of its own, then groups with a title."""
    for name, settings in options.items():
        parser.add_argument(name, **settings)
    for title, options_of_group in groups.items():
        _add(parser.add_argument_group(title), options_of_group)


def _load_weights(name: str) -> AutoregressiveModel:
    return (
        models.load_pretrained(name) if name in models.list_pretrained() else AutoregressiveModel.from_pretrained(name)
    )


def _load_beginning(options: argparse.Namespace) -> AutoregressiveModel | None:
    """The weights to begin with, if any."""
    if options.begin is None:
        return None
    named = ("model", "hidden", "blocks", "conditional", "softmax")
    given = [f"--{name}" for name in named if getattr(options, name) not in (None, False)]
    require(
        not given,
        f"{', '.join(given)} was given with --from, but {options.begin} says what network it is: leave it out.",
    )
    return _load_weights(options.begin)


def _load_data(options: argparse.Namespace, weights: AutoregressiveModel | None) -> data.Images:
    """The images: a published set by its name, or one's own, whose split is the same in every command."""
    name, path, size, channels = options.data, Path(options.data).expanduser(), options.size, options.channels
    if name and name not in data.published.NAMES and path.is_dir():
        size = getattr(weights, "image_size", None) if size is None else size
        channels = getattr(weights, "image_channels", 1) if channels is None else channels
        require(size is not None, f"{name} is a folder: give the side of its pictures in pixels, such as --size 32.")
        return data.Images.from_folder(path, size, channels)
    told, arrays = size is not None or channels is not None, path.suffix in (".npy", ".npz") and path.is_file()
    meant = name in data.published.NAMES or arrays or (not told and name == path.stem)
    require(meant, f"there is no folder and no .npy or .npz file {name!r}: check the path.")
    require(not told, f"--size or --channels was given with {name}, which is no folder: leave it out.")
    if arrays:
        return data.Images.from_arrays(**data.arrays.read_arrays(path), name=path.stem)
    return data.load_images(name, options.root, fallback=False)


def _build(
    options: argparse.Namespace, images: data.Images, weights: AutoregressiveModel | None
) -> AutoregressiveModel:
    """The network to be trained: a new one, or that of given weights."""
    network = {name: value for name in ("hidden", "blocks", "dropout") if (value := getattr(options, name)) is not None}
    if weights is not None:
        model = type(weights)(**weights.settings | network)  # of another dropout, if one was given
        model.load_state_dict(weights.state_dict())
        model.begun_with = {"weights": options.begin, "card": weights.card}
        return model
    kind = options.model or "pixelcnn"
    if options.softmax:
        require(kind == "attention", f"--softmax was given with --model {kind}: only attention has both heads.")
        network["components"] = None
    require(
        images.train_labels is not None or not options.conditional,
        f"--conditional was given, but {images.name} has no classes: leave it out, or give a folder for each class.",
    )
    torch.manual_seed(options.seed)
    return MODELS[kind](
        levels=images.levels,
        image_channels=images.train.shape[1],
        image_size=images.train.shape[-1],
        classes=len(images.classes) if options.conditional else None,
        **network,
    )


def _train(options: argparse.Namespace) -> int:
    commit = _commit()  # now: when the training ends, the files may be others
    weights = _load_beginning(options)
    images = _load_data(options, weights)
    model = _build(options, images, weights)
    augment = functools.partial(data.random_shift, most=options.shift) if options.shift else None
    given = {flag.strip("-").replace("-", "_") for flag in TRAINING} - {"shift"} | {"folder", "resume"}
    keywords = {name: value for name, value in vars(options).items() if name in given}
    history = training.fit(model, images, augment=augment, **keywords)
    here = processes.launched()
    if here.rank == 0:
        print(history)
    if history.interrupted or not history:
        # torchrun takes any other status for a failure, and may start everything again.
        return 130 if here.count == 1 else 0
    test = scoring.evaluate(model, images.test, images.test_labels) if len(images.test) else None
    if here.rank != 0:
        return 0
    best = Path(options.folder) / "best"
    model.save_pretrained(best)
    card = {
        "data": images.name,
        "command": _command(sys.argv[1:]),
        "recipe": history.recipe,
        "seed": options.seed,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "training_images": len(images.train),
        "epochs": list(history),
        "wall_clock_seconds": history[-1]["seconds"],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"{options.device or hardware.default_device()}, PyTorch {torch.__version__}"
        + (f", {here.count} processes" if here.count > 1 else ""),
    }
    if commit is not None:
        card["commit"] = commit
    if options.data not in data.published.NAMES:
        card["own_data"] = _describe(images)
    if test is not None:
        card["test_bits_per_dim"] = test
    if model.begun_with is not None:
        card["begun_with"] = model.begun_with
    score = f"valid: {min(row['valid'] for row in history):.4f}" if test is None else f"test: {test:.4f}"
    write_atomically(best / "card.json", (json.dumps(card, indent=2) + "\n").encode())
    print(f"{score} bits/dim; weights and record are in {best}")
    return 0


def _command(words: list[str]) -> str:
    """The command for the record, which others may read: of a path of this machine only the last part."""
    told = []
    for word in words:
        option, equals, value = word.rpartition("=")
        told.append(option + equals + (Path(value).name if Path(value).is_absolute() else value))
    return shlex.join(["python", "-m", "pixelhelpers", *(word for word in told if word != "--resume")])


def _commit() -> str | None:
    """The commit that the package is at, with "+changes" where its code is another; None outside its own checkout."""

    def git(*words: str) -> str:
        words = ("git", "--no-optional-locks", "-C", str(_PACKAGE), *words)
        return subprocess.run(words, check=True, capture_output=True, text=True, errors="replace", timeout=10).stdout

    try:
        own = git("ls-files", "--full-name", "--error-unmatch", "__main__.py").strip() == "pixelhelpers/__main__.py"
        return (
            git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--short", "*.py") else "") if own else None
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _describe(images: data.Images) -> dict:
    """One's own data for the record: how many images of which shape, their classes, and which files are missing."""
    return {
        "images": {part: len(getattr(images, part)) for part in ("train", "valid", "test")},
        "shape": list(images.train.shape[1:]),
        "levels": images.levels,
        "classes": list(images.classes),
        "unread": images.unread,
    }


def _evaluate(options: argparse.Namespace) -> int:
    model = _load_weights(options.weights).to(hardware.default_device())
    images = _load_data(options, model)
    part, labels = getattr(images, options.split), getattr(images, f"{options.split}_labels")
    require(len(part) > 0, f"{images.name} has no {options.split} images: give another --split.")
    require(
        model.classes is None or labels is not None,
        f"{options.weights} knows {model.classes} classes, and {images.name} none: give a folder for each.",
    )
    score = scoring.evaluate(model, part, labels)
    if processes.launched().rank == 0:
        print(f"{options.weights} on {len(part)} {options.split} images of {images.name}: {score:.4f} bits/dim")
    return 0


def _sample(options: argparse.Namespace) -> int:
    out = Path(options.out)
    require(
        out.suffix.lower() == ".png" and out.absolute().parent.is_dir(),
        f"out is {options.out}: give a name that ends in .png, in a folder that exists.",
    )
    model = _load_weights(options.weights).to(hardware.present_device(options.device))
    require(
        model.levels <= 256,
        f"{options.weights} draws codes of {model.levels} levels, which have no colours: draw them in Python, "
        "sample(model, count), and decode them.",
    )
    label, columns = None, 8
    if options.label is not None:
        columns, rest = divmod(options.count, len(options.label))
        require(
            not rest and columns,
            f"count is {options.count} for {len(options.label)} classes: give a multiple of these.",
        )
        label = torch.tensor(options.label).repeat_interleave(columns)
        columns = columns if len(options.label) > 1 else 8
    images = sampling.sample(
        model,
        options.count,
        method=options.method,
        temperature=options.temperature,
        top_p=options.top_p,
        greedy=options.greedy,
        label=label,
        seed=options.seed,
    )
    if processes.launched().rank == 0:
        grids.save_grid(images, options.out, columns, model.levels)
        print(f"{options.count} images are in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
