"""Pictures of one's own: `read_folder` reads those of a folder, whatever their formats and sizes."""

import functools
import io
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..arguments import whole
from ..errors import DataError, require
from ..hardware import free_memory
from ..progress import progress_bar
from .splits import fingerprint, held_out

SPLITS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
# Formats that Pillow knows by name only, and EPS, for which it runs another program.
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
LARGEST_FILE = 2**30  # bytes


class _Picture(NamedTuple):
    path: Path
    name: str  # below the folder
    split: str | None
    kind: str | None  # the name of its class


def read_folder(
    path: str | os.PathLike, size: int | tuple[int, int], channels: int, valid: float, seed: int, progress: bool
) -> dict[str, Any]:
    """Reads a folder of pictures into the fields of `Images`; `Images.from_folder` says how."""
    sides = _sides(size)
    require(channels in (1, 3), f"channels is {channels}: give 1 for grey or 3 for colour.")
    require(0 < valid < 1, f"valid is {valid}: give the share of the pictures to validate with, such as 0.1.")
    seed, folder = whole("seed", seed, 0), _folder(path)
    found = _find(folder)
    shape = (len(found), channels, *sides)
    _require_memory(shape)
    pixels, read, unread, fingerprints = torch.empty(shape, dtype=torch.uint8), [], {}, []
    with warnings.catch_warnings(), closing(progress_bar(len(found), "picture", shown=progress)) as bar:
        _choose_warnings()
        for picture in found:
            try:
                content = _content(picture.path)
                pixels[len(read)] = _decoded(content, channels, *sides)
            except Exception as error:  # a damaged file raises whatever its parser trips over
                unread[picture.name] = _reason(error)
            else:
                read.append(picture)
                fingerprints.append(fingerprint(content, seed))
            bar.update()
    _tell_unread(unread, len(found), folder)
    classes = tuple(sorted({picture.kind for picture in read if picture.kind is not None}))
    fields: dict[str, Any] = {"name": folder.resolve().name or "pictures", "classes": classes, "unread": unread}
    for split, chosen in _members(folder, found, read, fingerprints, valid).items():
        fields[split] = pixels[chosen]
        if classes:
            fields[f"{split}_labels"] = torch.tensor([classes.index(read[k].kind) for k in chosen])
    return fields


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    sides = size if isinstance(size, tuple | list) else (size, size)
    require(len(sides) == 2, f"size is {size!r}: give a side in pixels, or (height, width).")
    return whole("size", sides[0], 1), whole("size", sides[1], 1)


def _folder(path: str | os.PathLike) -> Path:
    require(isinstance(path, str | os.PathLike), f"path is a {type(path).__name__}: give a folder's name.", TypeError)
    folder = Path(path).expanduser()
    require(
        bool(os.fspath(path)) and folder.is_dir(),
        f"{os.fspath(path)!r} is no folder: give the folder that holds the pictures.",
        DataError,
    )
    return folder


# -- which files -----------------------------------------------------------------------------------


def _find(folder: Path) -> list[_Picture]:
    """Lists the pictures of a folder with their splits and classes, in the order of their names."""
    places = {path.relative_to(folder).parts: path for path in _walk(folder, folder.resolve(), set())}
    endings = ".png, .jpg, .gif, .webp, .tif, .bmp or another that Pillow reads"
    require(bool(places), f"{folder} holds no pictures: give a folder with files that end in {endings}.", DataError)
    tops = {parts[0] for parts in places if len(parts) > 1}
    named = {top: SPLITS[top.lower()] for top in tops if top.lower() in SPLITS}
    # A class may be called "train": the name alone makes no split where its neighbours are no splits.
    in_splits = "train" in named.values() and (len(named) > 1 or len(tops) == 1)
    require(
        in_splits or not tops or tops - set(named),
        f"{folder} holds {_some(tops)} and no pictures in train/: put those to learn from there.",
        DataError,
    )
    pictures = []
    for parts, path in sorted(places.items()):
        split = named.get(parts[0]) if in_splits else "train"
        inside = parts[1:] if in_splits else parts
        pictures.append(_Picture(path, "/".join(parts), split, inside[0] if len(inside) > 1 else None))
    _require_one_layout(folder, pictures, named if in_splits else {})
    return pictures


def _require_one_layout(folder: Path, pictures: list[_Picture], named: dict[str, str]) -> None:
    """Refuses pictures that lie where nobody can say what they are for."""
    stray = [picture.name for picture in pictures if picture.split is None or picture.name in named]
    require(
        not stray,
        f"{folder} holds {_some(stray)} beside {_some(named)}: move them into one of these, or out.",
        DataError,
    )
    require(
        len(set(named.values())) == len(named), f"{folder} holds {_some(named)}: keep one folder a split.", DataError
    )
    known = {picture.kind for picture in pictures if picture.split == "train"}
    loose = [picture.name for picture in pictures if picture.split == "train" and picture.kind is None]
    require(
        known == {None} or not loose,
        f"{folder} holds {_some(loose)} beside folders of classes, {_some(known - {None})}: "
        "move them into one of these, or out.",
        DataError,
    )
    strange = [picture.name for picture in pictures if picture.kind not in known]
    require(
        not strange,
        f"{folder} holds {_some(strange)}, and in train/ there is no such class: give all splits the same layout.",
        DataError,
    )


def _walk(folder: Path, top: Path, seen: set[Path]) -> Iterator[Path]:
    """The pictures below a folder, each folder once; a link is never followed back to where one came from."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            real = entry.resolve()
            back = entry.is_symlink() and (real.is_relative_to(top) or top.is_relative_to(real))
            if not back and real not in seen:
                seen.add(real)
                yield from _walk(entry, top, seen)
        elif entry.suffix.lower() in _endings() and (entry.is_file() or not entry.exists()):
            yield entry


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that Pillow reads by itself."""
    from PIL import Image

    Image.init()
    return tuple(sorted(set(Image.OPEN) - NO_PICTURES))


@functools.cache
def _endings() -> frozenset[str]:
    from PIL import Image

    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in _formats())


def _some(names: Iterable[str]) -> str:
    """A few names, on one line whatever is in them."""
    names = sorted(names)
    more = [f"{len(names) - 3:,} more"] if len(names) > 3 else []
    return ", ".join([*map(repr, names[:3]), *more])


def _require_memory(shape: tuple[int, int, int, int]) -> None:
    needed, free = 2 * math.prod(shape), free_memory()
    require(
        needed <= free,
        f"{shape[0]:,} pictures of {'×'.join(map(str, shape[1:]))} take {needed / 2e9:,.1f} GB, and twice that while "
        f"they are split; {free / 1e9:,.1f} GB are free: give a smaller size, or fewer pictures.",
        DataError,
    )


# -- what is in them -------------------------------------------------------------------------------


def _content(path: Path) -> bytes:
    size = path.stat().st_size
    require(size > 0, "the file is empty")
    require(size <= LARGEST_FILE, f"the file has {size / 1e9:.1f} GB")
    return path.read_bytes()


def _decoded(content: bytes, channels: int, height: int, width: int) -> Tensor:
    """A picture, first frame and upright, its middle in the asked size: `[C, H, W]`."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content), formats=_formats()) as picture:
        # A large JPEG need not be decoded whole: at twice the size that is asked for, nothing is lost.
        shrunk = 2 * max(height, width) / min(picture.size)
        picture.draft(None, (math.ceil(picture.width * shrunk), math.ceil(picture.height * shrunk)))
        plain = _opaque(ImageOps.exif_transpose(picture), "L" if channels == 1 else "RGB")
    fitted = np.array(ImageOps.fit(plain, (width, height)))
    return torch.from_numpy(fitted).view(height, width, channels).movedim(-1, 0)


def _opaque(picture, mode: str):
    """A picture in another mode: 16 bits brought to 8, white where one could see through."""
    from PIL import Image

    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture)
        whole = values.dtype.kind in "iu" and values.min() >= 0 and values.max() < 2**16
        require(whole, "its values are neither of 8 nor of 16 bits")
        picture = Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8))
    elif "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


def _choose_warnings() -> None:
    """Lets damaged notes inside a picture pass, and no picture that would fill the memory when it unfolds."""
    from PIL import Image

    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return text[:100] or type(error).__name__


# -- what was read ---------------------------------------------------------------------------------


def _tell_unread(unread: dict[str, str], count: int, folder: Path) -> None:
    """Says what could not be read, a file on each line; an error when that is everything."""
    if unread:
        some = "".join(f"\n  {name!r}: {why}" for name, why in list(unread.items())[:5])
        more = f"\n  and {len(unread) - 5:,} more, in images.unread" if len(unread) > 5 else ""
        told = f"{len(unread):,} of {count:,} files in {folder.resolve().name} cannot be read"
        require(len(unread) < count, f"{told}:{some}{more}\nGive a folder with whole pictures.", DataError)
        print(f"{told} and are left out:{some}{more}")


def _members(
    folder: Path, found: list[_Picture], read: list[_Picture], fingerprints: list[bytes], valid: float
) -> dict[str, list[int]]:
    """The numbers of the pictures in each split, shuffled; where none are for validation, a share of the others is."""
    shuffled = sorted(range(len(read)), key=fingerprints.__getitem__)
    members = {
        split: [k for k in shuffled if read[k].split == split] for split in sorted({picture.split for picture in found})
    }
    empty = [split for split, chosen in members.items() if not chosen]
    require(not empty, f"{folder} holds no picture in {_some(empty)} that can be read.", DataError)
    judges = {fingerprints[k] for split, chosen in members.items() if split != "train" for k in chosen}
    copies = sum(fingerprints[k] in judges for k in members["train"])
    if copies:
        print(f"{copies:,} pictures in train/ are also in another split of {folder}: scores will look too good.")
    if "valid" not in members:
        kept, held = held_out([fingerprints[k] for k in members["train"]], valid)
        members["train"], members["valid"] = ([members["train"][k] for k in chosen] for chosen in (kept, held))
    return members
