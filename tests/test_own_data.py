"""One's own pictures and arrays: what becomes of a folder, an array, a set made by hand, and what is refused."""

import dataclasses
import json
import os
import pickle
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelhelpers as ph
from pixelhelpers.data import DataError, Images, folders, load_images

# -- a folder of pictures -------------------------------------------------------------------------------


FORMATS = {
    "png": ("RGB", "L", "RGBA", "P", "LA", "1", "I;16"),
    "jpg": ("RGB", "L", "CMYK"),
    "gif": ("P", "L"),
    "webp": ("RGB", "RGBA"),
    "bmp": ("RGB", "L", "1", "P"),
    "tif": ("RGB", "L", "RGBA", "CMYK", "1", "I;16"),
    "ppm": ("RGB", "L"),
}


def picture(random, mode="RGB", height=None, width=None):
    """A picture of a random size whose four quarters differ."""
    height, width = height or int(random.integers(8, 40)), width or int(random.integers(8, 40))
    quarters = random.integers(0, 256, (2, 2, 3), np.uint8)
    pixels = quarters[np.arange(height)[:, None] * 2 // height, np.arange(width) * 2 // width]
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(pixels).convert(mode)


def write_pictures(folder, count, seed=0, **keywords):
    """Pictures of every format and mode in turn; gives their paths."""
    random, kinds = np.random.default_rng(seed), [(ending, mode) for ending in FORMATS for mode in FORMATS[ending]]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed}-{k}.{kinds[k % len(kinds)][0]}" for k in range(count)]
    for k, path in enumerate(paths):
        picture(random, kinds[k % len(kinds)][1], **keywords).save(path)
    return paths


def from_folder(path, size=8, *arguments, **keywords):
    return Images.from_folder(path, size, *arguments, progress=False, **keywords)


def rows(images):
    """All images of all splits as bytes."""
    return {part: [row.numpy().tobytes() for row in getattr(images, part)] for part in ("train", "valid", "test")}


def everything(images):
    return sorted(row for part in rows(images).values() for row in part)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, (6, 11), np.int64(9)])
def test_pictures_of_any_format_size_and_mode_become_images(tmp_path, size, channels):
    count = sum(map(len, FORMATS.values()))
    write_pictures(tmp_path / "mine", count)
    images = from_folder(tmp_path / "mine", size, channels)
    height, width = size if isinstance(size, tuple) else (size, size)
    assert images.train.shape[1:] == (channels, height, width) and images.train.dtype == torch.uint8
    assert len(images.train) + len(images.valid) == count and len(images.valid) == round(0.1 * count)
    assert len(images.test) == 0 and images.train_labels is None and images.classes == () and images.unread == {}
    assert repr(images).startswith(f"Images('mine': {len(images.train)} train, {len(images.valid)} valid, no test")
    assert len(set(everything(images))) > count // 2 and images.train.is_contiguous()


@pytest.mark.parametrize(("ending", "mode"), [(ending, mode) for ending in FORMATS for mode in FORMATS[ending]])
def test_what_a_picture_shows_survives_its_format(tmp_path, ending, mode):
    random = np.random.default_rng(1)
    whole = picture(random, height=16, width=16)
    expected = np.asarray(whole.convert("RGB" if mode in ("RGB", "RGBA", "CMYK", "P") else "L"), np.int64)
    for name in ("one", "two"):
        stored = whole.convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            stored = Image.fromarray(np.asarray(stored).astype(np.uint16) * 257)
        options = {"lossless": True} if ending == "webp" else {"quality": 95} if ending == "jpg" else {}
        stored.save(tmp_path / f"{name}.{ending}", **options)
        whole = picture(random, height=16, width=16)
    expected = expected if expected.ndim == 3 else expected[..., None]
    images = from_folder(tmp_path, 16, channels=expected.shape[-1])
    both = torch.cat([images.train, images.valid]).movedim(1, -1).numpy()
    quarters = [image.reshape(2, 8, 2, 8, -1).mean((1, 3)) for image in (*both, expected)]
    apart = sorted(np.abs(image - quarters[2]).max() for image in quarters[:2])
    lost = 40 if mode == "1" else 30 if mode == "P" else 12 if ending == "jpg" else 1
    assert apart[0] < lost < apart[1]  # one is the first picture, the other is not


def test_what_one_can_see_through_is_white_and_the_middle_is_kept_upright(tmp_path):
    clear = Image.new("RGBA", (20, 10), (10, 200, 30, 0))
    clear.paste((50, 60, 70, 255), (0, 0, 10, 10))
    clear.save(tmp_path / "clear.png")
    wide = Image.new("L", (30, 10))
    wide.paste(255, (10, 0, 20, 10))
    wide.save(tmp_path / "wide.png")
    turned = Image.new("L", (10, 10))
    turned.paste(255, (0, 0, 10, 5))  # the upper half; shown turned by a quarter, it is the right one
    notes = Image.Exif()
    notes[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=notes)
    frames = [Image.new("L", (10, 10), level) for level in (100, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    images = from_folder(tmp_path, 10)
    found = {tuple(image[0, 5, [0, 9]].tolist()) for image in torch.cat([images.train, images.valid])}
    grey = int(np.asarray(Image.new("RGB", (1, 1), (50, 60, 70)).convert("L"))[0, 0])
    assert found == {(grey, 255), (255, 255), (0, 255), (100, 100)}


def test_the_same_pictures_are_split_alike_wherever_they_lie_and_copies_stay_together(tmp_path):
    paths = write_pictures(tmp_path / "here", 30)
    for number in (1, 2):
        for k in (3, 4, 5):
            shutil.copy(paths[k], tmp_path / "here" / f"copy {number} of {k}{paths[k].suffix}")
    there = tmp_path / "there"
    there.mkdir()
    order = np.random.default_rng(2).permutation(len(list((tmp_path / "here").iterdir())))
    for k, path in zip(order, sorted((tmp_path / "here").iterdir()), strict=True):
        shutil.copy(path, there / f"{k}{path.suffix}")  # other names, another order
    splits = []
    for seed in range(6):
        here, moved = (rows(from_folder(tmp_path / name, valid=0.3, seed=seed)) for name in ("here", "there"))
        assert here == moved
        assert len(here["valid"]) == round(0.3 * 36) and not set(here["train"]) & set(here["valid"])
        splits.append(here["valid"])
    assert len({tuple(sorted(split)) for split in splits}) > 1


def test_subfolders_are_classes_and_nothing_hidden_or_foreign_counts(tmp_path):
    for k, name in enumerate(("dogs", "cats", "emus/young")):
        write_pictures(tmp_path / name, 12, seed=k)
    paths = write_pictures(tmp_path / "dogs" / ".hidden", 3, seed=7)
    shutil.copy(paths[0], tmp_path / "cats" / ".hidden.png")
    for name in ("notes.txt", "labels.csv", "figure.eps", "cats/film.mpg", "without ending"):
        (tmp_path / name).write_bytes(paths[0].read_bytes())
    (tmp_path / "empty folder").mkdir()
    (tmp_path / "cats" / "folder.png").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "cats" / "pipe.png")  # to read it would wait for ever
    images = from_folder(tmp_path, valid=0.25)
    assert images.classes == ("cats", "dogs", "emus") and images.unread == {}
    assert len(images.train) == 27 and len(images.valid) == 9
    labels = torch.cat([images.train_labels, images.valid_labels])
    assert labels.bincount().tolist() == [12, 12, 12] and labels.dtype == torch.int64
    assert images.test_labels.shape == (0,) and len(images.train_labels[:9].unique()) > 1  # shuffled
    cats = {row.numpy().tobytes() for row in torch.cat([images.train, images.valid])[labels == 0]}
    assert cats == set(everything(from_folder(tmp_path / "cats")))


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("train", "val"), ("Train", "Validation"), ("train",)])
@pytest.mark.parametrize("kinds", [("",), ("a", "b")])
def test_folders_of_splits_are_taken_as_they_are(tmp_path, names, kinds):
    for k, name in enumerate(names):
        for j, kind in enumerate(kinds):
            write_pictures(tmp_path / name / kind, 10 + k, seed=10 * k + j)
    images = from_folder(tmp_path, valid=0.2)
    alone = [everything(from_folder(tmp_path / name)) for name in names]
    parts = {part: sorted(some) for part, some in rows(images).items()}
    if len(names) == 1:
        assert sorted(parts["train"] + parts["valid"]) == alone[0] and len(parts["valid"]) == 2 * len(kinds)
    else:
        assert [parts["train"], parts["valid"]] == alone[:2]
    assert parts["test"] == (alone[2] if len(names) == 3 else [])
    assert images.classes == (() if kinds == ("",) else kinds)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "bus"):
        write_pictures(tmp_path / name, 6)
    assert from_folder(tmp_path).classes == ("bus", "train")


@pytest.mark.parametrize(
    ("folders", "phrases"),
    [
        (("", "cats"), ("beside folders of classes, 'cats'", "0-0.png")),
        (("train", "test", "more"), ("'more/0-0.png'", "beside 'test', 'train'")),
        (("train", "", "test"), ("'0-0.png'", "beside 'test', 'train'")),
        (("test", "valid"), ("no pictures in train/",)),
        (("train/a", "val/b"), ("'val/b/0-0.png'", "no such class")),
        (("train/a", "test"), ("'test/0-0.png'", "no such class")),
        (("train", "val", "valid"), ("'val', 'valid'", "keep one")),
    ],
)
def test_a_layout_that_can_be_understood_in_two_ways_is_refused_unread(tmp_path, monkeypatch, folders, phrases):
    for name in folders:
        write_pictures(tmp_path / name, 5)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(DataError) as error:
        from_folder(tmp_path)
    assert all(phrase in str(error.value) for phrase in phrases) and "\n" not in str(error.value)


def test_links_are_followed_once_and_never_in_circles(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    write_pictures(elsewhere / "birds", 5, seed=1)
    mine = tmp_path / "mine"
    path = write_pictures(mine / "cats", 5, seed=2)[0]
    try:
        (mine / "birds").symlink_to(elsewhere / "birds", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    for name, target in {
        "cats/again": mine / "cats",
        "top": mine,
        "above": tmp_path,
        "cats/twice": elsewhere / "birds",
    }.items():
        (mine / name).symlink_to(target, target_is_directory=True)
    (elsewhere / "birds" / "back").symlink_to(elsewhere, target_is_directory=True)
    (mine / "cats" / "one.png").symlink_to(path)
    (mine / "cats" / "gone.png").symlink_to(tmp_path / "gone")
    images = from_folder(mine, valid=0.5)
    assert images.classes == ("birds", "cats") and list(images.unread) == ["cats/gone.png"]
    assert torch.cat([images.train_labels, images.valid_labels]).bincount().tolist() == [5, 6]


# What cannot be read


def bomb(width, height):
    """The beginning of a PNG file that claims to be huge, and whose data is a few bytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def test_damaged_files_are_named_counted_and_left_out(tmp_path, capsys):
    random, names = np.random.default_rng(3), []
    paths = write_pictures(tmp_path, 40)
    whole = everything(from_folder(tmp_path))
    for k, path in enumerate(paths[::2]):
        content = bytearray(path.read_bytes())
        damage = k % 4
        if damage == 0:
            content = content[: len(content) // 3]
        elif damage == 1:
            content = b""
        elif damage == 2:
            content = b"<html><body>Please log in.</body></html>"
        else:
            content = random.bytes(len(content))
        path.write_bytes(content)
        names.append(path.name)
    (tmp_path / "bomb.png").write_bytes(bomb(60_000, 60_000))
    Image.new("1", (12_000, 10_000)).save(tmp_path / "large.png")  # whole, and too large to unfold
    names += ["bomb.png", "large.png"]
    floats = Image.fromarray(np.full((9, 9), 0.5, np.float32))
    floats.save(tmp_path / "floats\n.tif")
    names.append("floats\n.tif")
    capsys.readouterr()
    images = from_folder(tmp_path)
    told = capsys.readouterr().out
    unread = set(images.unread)
    assert unread <= set(names) and len(unread) >= len(names) - 5  # a third of a file may be a whole picture
    assert {"bomb.png", "large.png", "floats\n.tif"} <= unread and "pixels" in images.unread["large.png"]
    assert len(images.train) + len(images.valid) == 43 - len(unread)
    assert len(set(everything(images)) - set(whole)) <= 5
    assert told.startswith(f"{len(unread)} of 43 files in {tmp_path.name} cannot be read and are left out:\n")
    assert told.count("\n") == 7 and told.endswith(f"  and {len(unread) - 5} more, in images.unread\n")
    assert f"{len(unread)} files unread" in repr(images)
    assert not [why for why in images.unread.values() if str(tmp_path) in why or "0x" in why or not why]


def test_nothing_to_read_is_an_error(tmp_path):
    for path, phrase in ((tmp_path / "gone", "is no folder"), ("", "'' is no folder"), (tmp_path, "holds no pictures")):
        with pytest.raises(DataError, match=phrase):
            from_folder(path)
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"2 of 2 files .* 'a.png' \(not a picture\)"):
        from_folder(tmp_path)
    write_pictures(tmp_path / "split" / "train", 5)
    (tmp_path / "split" / "test").mkdir()
    (tmp_path / "split" / "test" / "a.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no picture in 'test' that can be read"):
        from_folder(tmp_path / "split")
    lone = write_pictures(tmp_path / "lone", 1)[0]
    shutil.copy(lone, lone.with_name("copy.png"))
    with pytest.raises(ValueError, match="1 different pictures"):
        from_folder(tmp_path / "lone")


def test_what_would_not_fit_in_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    write_pictures(tmp_path, 10)
    with monkeypatch.context() as patch:
        patch.setattr(folders, "free_memory", lambda: 2 * 10 * 3 * 8 * 8)
        assert len(from_folder(tmp_path, 8, 3).train) == 9
        patch.setattr(Image, "open", lambda *_, **__: pytest.fail("read"))
        with pytest.raises(DataError, match=r"10 pictures of 3×9×8 take .* GB"):
            from_folder(tmp_path, (9, 8), 3)
    with pytest.raises(DataError, match=r"10 pictures of 1×1000000×1000000 take 10,000.0 GB"):
        from_folder(tmp_path, 1_000_000)


def test_a_picture_that_is_also_a_test_picture_is_told(tmp_path, capsys):
    path = write_pictures(tmp_path / "train", 12)[5]
    write_pictures(tmp_path / "test", 3, seed=1)
    from_folder(tmp_path)
    assert capsys.readouterr().out == ""
    shutil.copy(path, tmp_path / "test" / f"copy{path.suffix}")
    from_folder(tmp_path)
    assert capsys.readouterr().out.startswith("1 pictures in train/ are also in another split")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": 2.5}, "size is 2.5"),
        ({"size": (8, 8, 3)}, r"size is \(8, 8, 3\)"),
        ({"size": "8"}, "size is '8'"),
        ({"size": (8, -1)}, "size is -1"),
        ({"channels": 4}, "channels is 4"),
        ({"valid": 0}, "valid is 0"),
        ({"valid": 1.0}, "valid is 1.0"),
        ({"valid": float("nan")}, "valid is nan"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"path": 3}, "path is a int"),
    ],
)
def test_arguments_are_refused_before_anything_is_read(tmp_path, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Images.from_folder(**{"path": tmp_path / "gone", "size": 8, **arguments})


# -- arrays of one's own -------------------------------------------------------------------------------


INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64, ">i4", ">u2", np.float64)


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize(
    "shape", [(20, 6, 5), (20, 1, 6, 5), (20, 3, 6, 5), (20, 6, 5, 3), (20, 6, 5, 1), (20, 4, 6, 5)]
)
@pytest.mark.parametrize("torches", [False, True])
def test_integers_of_any_type_and_axes_become_images(kind, shape, torches):
    values = np.random.default_rng(0).integers(0, 100, shape)
    array = values.astype(kind)
    if torches:
        if array.dtype.byteorder == ">":
            return  # no such tensors
        array = torch.from_numpy(array)
    else:
        array = array[::-1][::-1]  # not its own memory
        array.flags.writeable = False
    images = Images.from_arrays(array, 0.25, array[:4], levels=100)
    expected = torch.from_numpy(values)
    expected = expected[:, None] if len(shape) == 3 else expected
    expected = expected.movedim(-1, 1) if shape[-1] in (1, 3) and shape[1] not in (1, 3) else expected
    assert images.train.dtype == torch.uint8 and images.levels == 100 and torch.equal(images.test, expected[:4].byte())
    assert len(images.valid) == 5
    assert everything(dataclasses.replace(images, test=None)) == sorted(
        row.numpy().tobytes() for row in expected.byte()
    )


@pytest.mark.parametrize(
    ("array", "levels", "kind"),
    [
        (np.full((4, 2, 2), 3, np.uint8), 256, torch.uint8),
        (np.full((4, 2, 2), 511), 512, torch.int64),
        (np.full((4, 2, 2), 300, np.uint16), 301, torch.int64),
        (np.full((4, 2, 2), 16.0), 17, torch.uint8),
        (np.ones((4, 2, 2), bool), 2, torch.uint8),
        (np.ones((4, 2, 2), np.int32), 2, torch.uint8),
        (np.full((4, 2, 2), 65_535, np.uint16), 65_536, torch.int64),
    ],
)
def test_levels_are_inferred_from_type_and_values(array, levels, kind):
    images = Images.from_arrays(np.concatenate([array, np.zeros_like(array)]), test=array)
    assert (images.levels, images.train.dtype) == (levels, kind)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("least", [0, -1])
def test_scaled_images_are_refused_with_the_way_to_convert_them(kind, least):
    bytes_ = np.random.default_rng(0).integers(0, 256, (30, 5, 4), np.uint8)
    bytes_[0, 0, :2] = 0, 255
    train = bytes_ / 255 if least == 0 else bytes_ / 127.5 - 1
    train = torch.from_numpy(train).to(kind) if isinstance(kind, torch.dtype) else train.astype(kind)
    with pytest.raises(ValueError, match="black to white") as error:
        Images.from_arrays(train)
    if kind in (np.float16, torch.bfloat16):
        return  # they lack the digits for a way back
    way = str(error.value).split("give ")[1].rstrip(".")
    images = Images.from_arrays(eval(way, {"train": train, "torch": torch}))
    assert images.levels == 256 and everything(images) == sorted(image.tobytes() for image in bytes_)


def test_a_share_of_arrays_is_the_same_in_every_type_and_equal_images_stay_together():
    values = np.random.default_rng(0).integers(0, 3, (200, 2, 2))  # 81 different images
    labels = values.sum((1, 2))
    shares = []
    for kind, seed in ((np.int64, 0), (np.uint8, 0), (np.float32, 0), (np.int64, 1)):
        images = Images.from_arrays(values.astype(kind), 0.3, levels=3, train_labels=labels, seed=seed)
        train, valid = (getattr(images, part).numpy() for part in ("train", "valid"))
        assert len(valid) == 60 and not {v.tobytes() for v in train} & {v.tobytes() for v in valid}
        assert (train.sum((1, 2, 3)) == images.train_labels.numpy()).all() and images.classes == tuple("012345678")
        assert (valid.sum((1, 2, 3)) == images.valid_labels.numpy()).all()
        shares.append(valid.tobytes())
    assert shares[0] == shares[1] == shares[2] != shares[3]


GOOD = np.arange(8 * 4 * 4).reshape(8, 4, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": GOOD.tolist()}, "train is a list"),
        ({"train": GOOD.reshape(8, 16)}, r"train has shape \(8, 16\): give"),
        ({"train": GOOD[:0]}, r"train has shape \(0, 4, 4\)"),
        ({"train": GOOD.reshape(2, 2, 2, 4, 4)}, "train has shape"),
        ({"train": np.zeros((2, 8, 8, 4), np.uint8)}, r"4 channels last: drop transparency \(train\[..., :3\]\)"),
        ({"train": GOOD.astype(complex)}, "complex128"),
        ({"train": GOOD.astype(object)}, "type object"),
        ({"train": GOOD.astype(str)}, "train has type <U"),
        ({"train": GOOD - 1}, "from -1 to 126"),
        ({"train": (GOOD % 2).astype(float)}, "values from 0 to 1: if that is black to white"),
        ({"train": GOOD + 0.5}, "round them"),
        ({"train": np.where(GOOD == 3, np.nan, GOOD)}, "from nan to nan"),
        ({"train": GOOD * 10**9}, "give levels"),
        ({"levels": 100}, "values from 0 to 127, but levels is 100"),
        ({"levels": 1}, "levels is 1"),
        ({"levels": 99.5}, "levels is 99.5"),
        ({"valid": 1.5}, "valid is 1.5"),
        ({"valid": 0}, "valid is 0"),
        ({"valid": GOOD[:, :2]}, r"valid has shape \(8, 1, 2, 4\) and train"),
        ({"train": GOOD * 0}, "1 different pictures"),
        ({"train_labels": [0] * 7}, "give 8 integers"),
        ({"train_labels": np.eye(8, dtype=int)}, r"argmax\(1\)"),
        ({"train_labels": [0.5] * 8}, "train_labels have type torch.float32"),
        ({"train_labels": ["cat"] * 8}, "train_labels are a list of no numbers"),
        ({"train_labels": [-1] * 8}, "train_labels has other values"),
        ({"train_labels": [10**9] * 8}, "give classes"),
        ({"train_labels": [2] * 8, "classes": ("a", "b")}, "and there are 2 classes"),
        ({"train_labels": [0] * 8, "classes": "ab"}, "give the name of each class"),
        ({"valid_labels": [0] * 8}, "without valid"),
        ({"test_labels": [0] * 8}, "without test"),
        ({"seed": None}, "seed is None"),
        ({"name": 3}, "name is a int"),
    ],
)
def test_arrays_that_cannot_be_images_are_refused_in_one_line(arguments, message):
    Images.from_arrays(GOOD)
    with pytest.raises((ValueError, TypeError), match=message) as error:
        Images.from_arrays(**{"train": GOOD, **arguments})
    assert "\n" not in str(error.value)


# -- a set made by hand --------------------------------------------------------------------------------


def by_hand(**fields):
    images = torch.arange(2 * 16).view(2, 1, 4, 4)
    return Images(**{"train": images, "valid": images, "levels": 32, **fields})


def test_fields_have_their_old_places_and_may_be_few():
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    whole = Images(images, images, images, labels, labels, labels, "mine", 4, ("a", "b"))
    assert repr(whole) == "Images('mine': 2 train, 2 valid, 2 test, 1×4×4, 4 levels, 2 classes)"
    few = Images(images, images)
    assert few.test.shape == (0, 1, 4, 4) and few.levels == 256 and few.train_labels is None and few.classes == ()
    assert by_hand().levels == 32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": np.zeros((2, 1, 4, 4), np.uint8)}, "train is a ndarray"),
        ({"train": None}, "train is a NoneType"),
        ({"valid": torch.zeros(2, 1, 4, 4)}, "valid has type torch.float32"),
        ({"valid": torch.zeros(2, 4, 4, dtype=torch.long)}, "give integers"),
        ({"valid": torch.zeros(0, 1, 4, 4, dtype=torch.long)}, "at least one image"),
        ({"test": torch.zeros(2, 1, 4, 5, dtype=torch.long)}, "all of one size"),
        ({"test": torch.full((2, 1, 4, 4), 32)}, "test has values from 32 to 32, but levels is 32"),
        ({"test": torch.full((2, 1, 4, 4), -1)}, "test has values from -1"),
        ({"train": torch.zeros(2, 1, 4, 4, dtype=torch.uint16)}, "train has type torch.uint16"),
        ({"levels": 1}, "levels is 1"),
        ({"levels": 31.5}, "levels is 31.5"),
        ({"train_labels": torch.zeros(2).long()}, "there are 0 classes"),
        ({"train_labels": torch.zeros(3).long(), "classes": ("a",)}, "one integer per image"),
        ({"valid_labels": torch.zeros(2), "classes": ("a",)}, "valid_labels has type torch.float32"),
        ({"valid_labels": [0, 0], "classes": ("a",)}, "valid_labels is a list"),
        ({"test_labels": torch.zeros(2).long(), "classes": ("a",)}, "one integer per image"),
        ({"classes": "abc"}, "classes is 'abc'"),
        ({"classes": (0, 1)}, "classes is"),
        ({"name": None}, "name is a NoneType"),
    ],
)
def test_a_set_made_by_hand_is_checked(fields, message):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        by_hand(**fields)
    assert "\n" not in str(error.value)


def test_bytes_of_256_levels_are_not_searched(monkeypatch):
    images = load_images("digits")
    monkeypatch.setattr(torch.Tensor, "min", lambda *_: pytest.fail("searched"))
    dataclasses.replace(images, train_labels=None, valid_labels=None, test_labels=None, name="again")


# -- and then ------------------------------------------------------------------------------------------


def fit(images, **keywords):
    model = ph.PixelCNN(levels=images.levels, hidden=8, blocks=1, image_size=4, **keywords)
    return ph.fit(model, images, epochs=1, progress=False, device="cpu", precision="no")


def test_own_sets_train_with_labels_and_without():
    pictures = np.random.default_rng(0).integers(0, 8, (40, 4, 4))
    plain = Images.from_arrays(pictures)
    assert len(fit(plain)) == 1
    assert len(fit(Images.from_arrays(pictures, train_labels=pictures[:, 0, 0] % 3), classes=3)) == 1
    with pytest.raises(ValueError, match=r"images\.train_labels and images\.valid_labels missing: the model knows 3"):
        fit(plain, classes=3)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (torch.zeros(4, 1, 4, 4, dtype=torch.uint8), "from_arrays"),
        (np.zeros((4, 4, 4), np.uint8), "from_arrays"),
        ((torch.zeros(4, 1, 4, 4), None), "from_arrays"),
        (torch.utils.data.TensorDataset(torch.zeros(4, 1, 4, 4)), "all its pictures"),
        (torch.utils.data.DataLoader([1, 2]), "all its pictures"),
        ("my/folder", "from_folder"),
        (None, "from_arrays"),
    ],
)
def test_what_is_no_set_of_images_is_told_how_to_become_one(given, advice):
    with pytest.raises(TypeError, match=rf"images is a {type(given).__name__}: .*{advice}"):
        ph.fit(ph.PixelCNN(hidden=8, blocks=1), given, epochs=1)


def command(*words):
    from pixelhelpers.__main__ import main

    return main([str(word) for word in words])


SMALL = ("--epochs", 1, "--hidden", 8, "--blocks", 1, "--batch-size", 8, "--device", "cpu")


def test_a_folder_trains_and_is_scored_from_the_command_line(tmp_path, monkeypatch, capsys):
    for k, name in enumerate(("cats", "dogs")):
        write_pictures(tmp_path / "pets" / name, 15, seed=k)
    (tmp_path / "pets" / "cats" / "broken.png").write_bytes(b"nothing")
    run, pets = tmp_path / "run", tmp_path / "pets"
    words = ["train", "--data", pets, "--size", 8, "--channels", 3, "--conditional", *SMALL, "--folder", run]
    monkeypatch.setattr(sys, "argv", ["pixelhelpers", *map(str, words)])
    assert command(*words) == 0
    told = (run / "best" / "card.json").read_text()
    card = json.loads(told)
    assert card["data"] == "pets" and "--data pets --size 8" in card["command"] and str(tmp_path) not in told
    assert card["own_data"]["images"] == {"train": 27, "valid": 3, "test": 0} and card["training_images"] == 27
    assert card["own_data"]["shape"] == [3, 8, 8] and card["own_data"]["classes"] == ["cats", "dogs"]
    assert card["own_data"]["unread"] == {"cats/broken.png": "not a picture"}
    assert "test_bits_per_dim" not in card
    score = f"{card['epochs'][0]['valid']:.4f} bits/dim"
    assert f"valid: {score}" in capsys.readouterr().out
    assert command("evaluate", run / "best", "--data", f"{pets}/") == 0  # size and channels are those of the weights
    assert f"on 3 valid images of pets: {score}" in capsys.readouterr().out
    assert command("evaluate", run / "best", "--data", pets, "--split", "test") == 1
    assert "pets has no test images" in capsys.readouterr().err
    assert command("train", "--from", run / "best", "--data", pets, *SMALL[:2], "--folder", tmp_path / "on") == 0


def test_arrays_train_from_the_command_line(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)
    np.save(tmp_path / "codes.npy", random.integers(0, 12, (40, 4, 4)))
    labelled = {"train": random.integers(0, 12, (40, 4, 4)), "train_labels": random.integers(0, 2, 40)}
    test = {"test": random.integers(0, 12, (9, 4, 4)), "test_labels": random.integers(0, 2, 9)}
    np.savez(tmp_path / "set.npz", **labelled, **test, levels=12, classes=["left", "right"])
    assert command("train", "--data", tmp_path / "codes.npy", *SMALL, "--folder", tmp_path / "one") == 0
    words = ["--data", tmp_path / "set.npz", "--conditional"]
    assert command("train", *words, *SMALL, "--folder", tmp_path / "two") == 0
    capsys.readouterr()
    assert command("evaluate", tmp_path / "two" / "best", *words[:2], "--split", "test") == 0
    card = json.loads((tmp_path / "two" / "best" / "card.json").read_text())
    assert f"9 test images of set: {card['test_bits_per_dim']:.4f}" in capsys.readouterr().out
    assert card["own_data"]["levels"] == 12 and card["own_data"]["classes"] == ["left", "right"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "flat"), "flat is a folder: give the side"),
        (("--data", "flat", "--size", 8, "--conditional"), "--conditional was given, but flat has no classes"),
        (("--data", "flat", "--size", 8, "--from", "gated-digits"), "the model knows 10 classes"),
        (("--data", "flat", "--size", 0), "size is 0"),
        (("--data", "flat", "--size", 8, "--channels", 2), "channels is 2"),
        (("--data", "empty", "--size", 8), "empty holds no pictures"),
        (("--data", "gone/flat", "--size", 8), "no folder and no .npy or .npz file 'gone/flat'"),
        (("--data", "flet", "--size", 8), "no folder and no .npy or .npz file 'flet'"),
        (("--data", "gone.npy"), "no folder and no .npy or .npz file 'gone.npy'"),
        (("--data", ""), "Unknown data set ''"),
        (("--data", "digits", "--size", 8), "--size or --channels was given with digits"),
        (("--data", "codes.npy", "--channels", 1), "--size or --channels was given with codes.npy"),
        (("--data", "bad.npy"), "bad.npy holds no whole arrays"),
        (("--data", "pickled.npy"), "pickled.npy holds no whole arrays"),
        (("--data", "odd.npz"), "odd.npz holds x: give an array train"),
    ],
)
def test_own_data_that_cannot_be_used_is_said_in_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "flat", 10)
    (tmp_path / "empty").mkdir()
    np.save("codes.npy", np.arange(64).reshape(4, 4, 4))
    Path("bad.npy").write_bytes(b"garbage")
    np.save("pickled.npy", np.array([{"not": "numbers"}]), allow_pickle=True)
    np.savez("odd.npz", x=np.zeros(3))
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    rest = ("--epochs", 1) if "--from" in words else SMALL
    assert command("train", *words, *rest, "--folder", "run") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error and not Path("run").exists()


def test_a_set_without_classes_is_not_scored_by_a_model_with_classes(tmp_path, capsys):
    write_pictures(tmp_path / "flat", 10)
    assert command("evaluate", "gated-digits", "--data", tmp_path / "flat", "--size", 8) == 1
    assert "gated-digits knows 10 classes, and flat none" in capsys.readouterr().err
