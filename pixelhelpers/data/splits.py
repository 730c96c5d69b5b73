"""A validation share that is the same on every machine: `held_out`, by the `fingerprint` of each picture."""

import hashlib
from itertools import groupby

from ..errors import require


def fingerprint(content: bytes, seed: int) -> bytes:
    """Gives a picture's place in the shuffled order: it depends on its bytes and the seed, not on its name.

    Arguments:
        content: the bytes of the picture or its file.
        seed: another seed shuffles differently.

    Example:
        >>> fingerprint(b"one", 0) == fingerprint(b"one", 0) != fingerprint(b"one", 1)
        True
    """
    return hashlib.sha256(b"%d:" % seed + content).digest()


def held_out(fingerprints: list[bytes], share: float) -> tuple[list[int], list[int]]:
    """Sets a share of the pictures aside for validation; copies of one picture stay together.

    Arguments:
        fingerprints: one per picture, at least two different ones.
        share: of the pictures, in (0, 1); at least one picture is held out and one is left.

    Returns:
        the numbers of those that are left and of those held out, both rising.

    Raises:
        ValueError: when all are copies of one.

    Example:
        >>> held_out([fingerprint(content, 0) for content in (b"one", b"two", b"one", b"three")], 0.25)
        ([0, 2, 3], [1])
    """
    order = sorted(range(len(fingerprints)), key=fingerprints.__getitem__)
    groups = [list(copies) for _, copies in groupby(order, key=fingerprints.__getitem__)]
    require(
        len(groups) > 1,
        f"there are {len(groups)} different pictures, none to hold out for validation: give validation pictures.",
    )
    held: set[int] = set()
    wanted = round(share * len(order))
    for copies in groups[:-1]:  # the last one is always left
        if len(held) + len(copies) <= wanted:
            held.update(copies)
    held = held or set(min(groups, key=len))
    return [k for k in range(len(order)) if k not in held], sorted(held)
