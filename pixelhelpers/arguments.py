"""What arguments may be: `whole` and `real` numbers of any library, `integers` in a tensor or an array."""

import operator
from typing import Any

import torch
from torch import Tensor

from .errors import require


def whole(name: str, number: Any) -> int:
    """Gives a whole number, of Python, NumPy or a tensor without axes, as an int.

    Arguments:
        name: what to call it where it is refused.
        number: what was given.

    Raises:
        ValueError: for anything else.

    Example:
        >>> whole("count", torch.tensor(3))
        3
        >>> whole("count", 2.5)
        Traceback (most recent call last):
        ValueError: count is 2.5: give a whole number.
    """
    try:
        return operator.index(number)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {_shown(number)}: give a whole number.") from None


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
        require(not isinstance(number, str | bytes), "a text")
        return float(number)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} is {_shown(number)}: give a number.") from None


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
        raise ValueError(f"{name} is {_shown(values)}: give {expected}.") from None
    kind = tensor.dtype
    require(
        not (kind.is_floating_point or kind.is_complex or kind == torch.bool),
        f"{name} has type {kind} and shape {tuple(tensor.shape)}: give {expected}.",
    )
    return tensor.long() if kind in (torch.uint16, torch.uint32, torch.uint64) else tensor  # which lack most operations


def _shown(value: Any) -> str:
    """A value in one short line: itself, or its type where it is large."""
    shown = repr(value)
    shape = getattr(value, "shape", None)
    if shape:
        return f"a {type(value).__name__} of shape {tuple(shape)}"
    return shown if len(shown) < 60 and "\n" not in shown else f"a {type(value).__name__}"
