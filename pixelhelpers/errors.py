"""What can go wrong and has a name: `ModelError`, `CausalityError`, `DataError`, `AnotherRun`; `require` and `brief`
say it in words."""


class ModelError(AssertionError):
    """Raised by `check_model`: the model breaks what every autoregressive model promises."""


class CausalityError(ModelError):
    """Raised by `check_causal`: an output depends on what is not drawn before it, or on nothing."""


class DataError(RuntimeError):
    """A data set cannot be had; the message says why, and what to do."""


class AnotherRun(ValueError):
    """A checkpoint is whole, and belongs to another run than the one that was to be resumed."""


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


def brief(what: object) -> str:
    """Gives an error of somebody else's code, or a text from somebody else's file, in one short line.

    Example:
        >>> brief(ValueError("two\\nlines")), len(brief("x" * 1000))
        ('two lines', 200)
    """
    text = "".join(letter if letter.isprintable() else " " for letter in str(what) or type(what).__name__)
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:199]}…"
