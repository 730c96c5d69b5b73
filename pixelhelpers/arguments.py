"""What arguments may be: `whole` and `real` numbers of any library, `integers` in a tensor or an array, an
`image_shape`; and how they are `shown` where they are refused."""

import operator
from typing import Any

import torch
from torch import Tensor

from .errors import require


def whole(name: str, number: Any, least: int | None = None) -> int:
    """Gives a whole number, of Python, NumPy or a tensor without axes, as an int.

    Arguments:
        name: what to call it where it is refused.
        number: what was given.
        least: the least that it may be; None: any.

    Raises:
        ValueError: for anything else.

    Example:
        >>> whole("count", torch.tensor(3))
        3
        >>> whole("levels", 1.5, 2)
        Traceback (most recent call last):
        ValueError: levels is 1.5: give a whole number, at least 2.
    """
    expected = f"{name} is {shown(number)}: give a whole number{'' if least is None else f', at least {least}'}."
    try:
        _check_scalar(number)
        given = operator.index(number)
    except (TypeError, ValueError):
        raise ValueError(expected) from None
    require(least is None or given >= least, expected)
    return given


def real(name: str, number: Any) -> float:
    """Gives a number, of Python, NumPy or a tensor without axes, as a float.

    Arguments:
        name: what to call it where it is refused.
        number: what was given.

    Raises:
        ValueError: for anything else, such as a text.

    Example:
        >>> real("temperature", torch.tensor(0.5))
        0.5
        >>> real("temperature", "0.5")
        Traceback (most recent call last):
        ValueError: temperature is '0.5': give a number.
    """
    try:
        _check_scalar(number)
        return float(number)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"{name} is {shown(number)}: give a number.") from None


def integers(name: str, values: Any, expected: str) -> Tensor:
    """Gives whole numbers, in a tensor, an array or a list, as a tensor of a type that PyTorch can compute with.

    Arguments:
        name: what to call them where they are refused.
        values: what was given.
        expected: what to give instead.

    Raises:
        ValueError: for other things than whole numbers.

    Example:
        >>> import numpy
        >>> integers("label", numpy.array([1, 2], dtype=numpy.uint16), "a class each").dtype
        torch.int64
        >>> integers("label", [0.5], "a class each")
        Traceback (most recent call last):
        ValueError: label has type torch.float32 and shape (1,): give a class each.
    """
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} is {shown(values)}: give {expected}.") from None
    kind = tensor.dtype
    require(
        not (kind.is_floating_point or kind.is_complex or kind == torch.bool),
        f"{name} has type {kind} and shape {tuple(tensor.shape)}: give {expected}.",
    )
    return tensor.long() if kind in (torch.uint16, torch.uint32, torch.uint64) else tensor  # which lack most operations


def image_shape(shape: Any) -> tuple[int | None, int, int]:
    """Gives (channels, height, width) of what may be (height, width), whose channels nobody says: None.

    Arguments:
        shape: whole numbers, at least 1.

    Raises:
        ValueError: for anything else.

    Example:
        >>> image_shape((3, 8, 8)), image_shape(torch.tensor([8, 10]))
        ((3, 8, 8), (None, 8, 10))
    """
    try:
        sides = [whole("shape", side) for side in shape]
    except (TypeError, ValueError):
        sides = []
    require(
        len(sides) in (2, 3) and min(sides) >= 1,
        f"shape is {shown(shape)}: give (height, width) or (channels, height, width), whole numbers, at least 1.",
    )
    return tuple([None, *sides][-3:])


def _check_scalar(number: Any) -> None:
    """Refuses what is no number though Python makes one of it: a text, yes and no, an array with axes."""
    kind = str(getattr(number, "dtype", type(number).__name__))
    require(not isinstance(number, str | bytes) and "bool" not in kind, "no number")
    require(getattr(number, "ndim", 0) == 0, "several numbers")


def shown(value: Any) -> str:
    """Gives a value in one short line, for an error.

    Arguments:
        value: anything.

    Example:
        >>> shown(0.5), shown(torch.zeros(2, 2)), len(shown(10**400))
        ('0.5', 'a Tensor of shape (2, 2)', 60)
    """
    if getattr(value, "shape", None):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"
