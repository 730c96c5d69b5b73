"""What can go wrong and has a name: `ModelError`, `CausalityError`, `DataError`; `require` says it in words, and
`whole_number`, `number` and `plain` take numbers of any type, or say what was given instead."""

from numbers import Real
from typing import Any


class ModelError(AssertionError):
    """Raised by `check_model`: the model breaks what every autoregressive model promises."""


class CausalityError(ModelError):
    """Raised by `check_causal`: an output depends on what is not drawn before it, or on nothing."""


class DataError(RuntimeError):
    """A data set cannot be had; the message says why, and what to do."""


def require(holds: bool, otherwise: str, error: type[Exception] = ValueError) -> None:
    """Raises an error unless something holds.

    Arguments:
        holds: what must be so.
        otherwise: the error's text: what was given, what was expected and what to do.
        error: the kind of error.

    Example:
        >>> require(2 + 2 == 4, "count again")
    """
    if not holds:
        raise error(otherwise)


def plain(given: Any) -> Any:
    """Gives a scalar of numpy or PyTorch as the Python value that it holds, and anything else as it is.

    Arguments:
        given: anything.

    Example:
        >>> import numpy as np
        >>> plain(np.int64(3)), plain("three")
        (3, 'three')
    """
    return given.item() if getattr(given, "ndim", None) == 0 else given


def whole_number(name: str, given: Any, least: int = 1, most: int = 2**31 - 1) -> int:
    """Gives a whole number, of whatever type, as an int.

    Arguments:
        name: what the number is called, for the error.
        given: an int, a float without a fraction, or a scalar of numpy or PyTorch.
        least, most: the range of the number.

    Raises:
        ValueError: for anything else, or a number out of its range.

    Example:
        >>> import numpy as np
        >>> whole_number("epochs", np.float32(3))
        3
        >>> whole_number("epochs", 1.5)
        Traceback (most recent call last):
        ValueError: epochs is 1.5: give a whole number.
    """
    value = plain(given)
    require(_is_number(value) and value % 1 == 0, f"{name} is {_in_a_line(given)}: give a whole number.")
    require(value >= least, f"{name} is {_in_a_line(given)}: give at least {least}.")
    require(value <= most, f"{name} is {_in_a_line(given)}: give at most {most}.")
    return int(value)


def number(name: str, given: Any, fits: str = "positive") -> float:
    """Gives a finite number, of whatever type, as a float.

    Arguments:
        name: what the number is called, for the error.
        given: an int, a float, a fraction, or a scalar of numpy or PyTorch.
        fits: "positive", "not negative", or "in [0, 1)".

    Raises:
        ValueError: for anything else, NaN, infinity, or a number out of its range.

    Example:
        >>> import torch
        >>> number("lr", torch.tensor(0.5))
        0.5
        >>> number("ema", 1, "in [0, 1)")
        Traceback (most recent call last):
        ValueError: ema is 1: give a finite number, in [0, 1).
    """
    value = plain(given)
    in_range = {"positive": lambda: value > 0, "not negative": lambda: value >= 0, "in [0, 1)": lambda: 0 <= value < 1}
    require(_is_number(value) and in_range[fits](), f"{name} is {_in_a_line(given)}: give a finite number, {fits}.")
    return float(value)


def _is_number(value: Any) -> bool:
    """Whether it is a real number that a float can hold; True and False are answers, not numbers."""
    return isinstance(value, Real) and not isinstance(value, bool) and -1.7e308 < value < 1.7e308


def _in_a_line(given: Any) -> str:
    words = " ".join(repr(given).split())
    return words if len(words) < 80 else f"{words[:76]} ..."
