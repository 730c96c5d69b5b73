"""A bar that shows how far something is, `progress_bar`, in a notebook, a terminal or a log file; and how to `finish`
it before its time."""

import sys


def progress_bar(total: int, unit: str, *, shown: bool = True, **keywords):
    """Makes a tqdm bar; where it is written to a file, it adds a line every half minute only.

    Arguments:
        total: number of steps.
        unit: what a step is.
        shown: False for a bar that keeps silent.
        keywords: further arguments of `tqdm`.

    Example:
        >>> bar = progress_bar(3, "pass", shown=False)
        >>> bar.update()
        >>> bar.close()
    """
    from tqdm.auto import tqdm

    live = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(total=total, unit=unit, disable=not shown, mininterval=0.1 if live else 30, **keywords)


def finish(bar) -> None:
    """Ends a bar whose work is done with fewer steps than were foreseen: it is full, not broken off.

    Arguments:
        bar: what `progress_bar` made.

    Example:
        >>> bar = progress_bar(3, "pass", shown=False)
        >>> finish(bar)
    """
    if not bar.disable and bar.n < bar.total:
        bar.total = bar.n
        if hasattr(bar, "container"):  # in a notebook
            bar.container.children[1].max = bar.n
        bar.refresh()
