"""What the machine offers: `default_device`, `present_device` and `chosen_device`; `default_precision` and
`full_precision`; `free_memory`, `keep_freed_memory` and `give_memory_back`; and the processes that an `accelerator`
finds."""

import ctypes
import gc
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import torch

from .arguments import shown
from .errors import require
from .processes import launched

PRECISIONS = ("no", "bf16", "fp16")


def default_device() -> torch.device:
    """Gives the device that `fit` takes when it is not told another: a GPU if there is one, else the CPU.

    Example:
        >>> default_device().type in ("cuda", "mps", "xpu", "cpu")
        True
    """
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def present_device(device: str | None) -> str:
    """Gives the kind of a device by its name, if this machine has it.

    Arguments:
        device: "cpu", "cuda", "mps" or "cuda:0"; None chooses the best there is.

    Raises:
        ValueError: for a device that is not there.

    Example:
        >>> present_device("cpu")
        'cpu'
    """
    best = default_device().type
    kind = best if device is None else str(device).partition(":")[0]
    there = dict.fromkeys((best, "cpu"))
    require(
        kind in there,
        f"device is {shown(device)}, which this machine lacks: give {', '.join(map(repr, there))}, or leave it out.",
    )
    return kind


def default_precision(device: str) -> str:
    """Gives the precision that `fit` takes when it is not told another: mixed where that is faster.

    On CUDA GPUs, and on CPUs with matrix units for bfloat16 (Intel AMX; only newer versions of PyTorch can
    tell), products are computed in a short format; weights, their averages and the optimiser's moments
    stay in float32. So two kinds of machines train to slightly different weights; give `precision="no"`
    where that matters.

    Arguments:
        device: "cuda", "mps" or "cpu".

    Example:
        >>> default_precision("mps")
        'no'
    """
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device == "cpu" and getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16") else "no"


def chosen_device(device: str | None, precision: str | None) -> tuple[str, str]:
    """Completes what somebody asks for by what the machine has and does best.

    Arguments:
        device: as for `present_device`.
        precision: "no", "bf16", "fp16", or None for `default_precision`.

    Raises:
        ValueError: for a device that is not there, or a precision that it lacks.

    Example:
        >>> chosen_device("cpu", "no")
        ('cpu', 'no')
    """
    device = present_device(device)
    precision = default_precision(device) if precision is None else precision
    require(
        isinstance(precision, str) and precision in PRECISIONS,
        f"precision is {shown(precision)}: give one of {PRECISIONS}.",
    )
    require(precision != "fp16" or device != "cpu", 'precision="fp16" needs a GPU: on a CPU give "bf16" or "no".')
    return device, precision


def accelerator(device: str, precision: str, compile: bool):
    """Makes the `accelerate.Accelerator` that trains on this device, with the processes that `torchrun` started.

    Arguments:
        device: "cuda", "mps" or "cpu".
        precision: one of `PRECISIONS`.
        compile: whether networks run through `torch.compile`.

    Example:
        >>> accelerator("cpu", "no", compile=False).num_processes
        1
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    # Accelerate keeps the first choice of a process for good; a notebook may train twice, differently.
    AcceleratorState._reset_state()
    if (PartialState._shared_state.get("_cpu") or False) != (device == "cpu"):
        PartialState._reset_state()
    launched()  # makes them known to each other, if nobody has
    return Accelerator(cpu=device == "cpu", mixed_precision=precision, dynamo_backend="inductor" if compile else "no")


def free_memory() -> int:
    """Gives the bytes of main memory that can still be used, as far as the system tells.

    Where a container has a limit, it is never more than that limit.

    Example:
        >>> free_memory() > 0
        True
    """
    free = psutil.virtual_memory().available
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            free = min(free, int(Path(file).read_text()))
        except (OSError, ValueError):  # no container, or "max"
            continue
    return free


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Lets the C library keep freed memory for the next step instead of handing it back to the system.

    A training step on a CPU allocates the same large tensors again and again. Fresh pages for them take up
    to a third of its time. Holds for the whole process until the block ends, then gives back what is left
    over; does nothing where the C library is not glibc.

    References:
        The GNU C Library manual, "Malloc Tunable Parameters" (M_MMAP_MAX, M_TRIM_THRESHOLD).

    Example:
        >>> with keep_freed_memory():
        ...     product = torch.ones(64, 64) @ torch.ones(64, 64)
    """
    library = _glibc()
    if library is None:
        yield
        return
    m_trim_threshold, m_mmap_max = -1, -4
    library.mallopt(m_mmap_max, 0)
    library.mallopt(m_trim_threshold, 2**31 - 1)
    try:
        yield
    finally:  # glibc's defaults
        library.mallopt(m_mmap_max, 65_536)
        library.mallopt(m_trim_threshold, 128 * 1024)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it can be told what to do with freed memory; None on macOS, musl and Windows."""
    try:
        library = ctypes.CDLL(None)
        _ = library.mallopt, library.malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return library


def give_memory_back(names: dict[str, Any]) -> None:
    """Forgets the images, models and numbers of a notebook, and gives their memory back to the system.

    Modules, functions and classes stay, so an exercise can still be solved.

    Arguments:
        names: the names of the notebook, `globals()`; they are changed.

    Example:
        >>> names = {"torch": torch, "draw": print, "images": torch.zeros(100, 1, 28, 28)}
        >>> give_memory_back(names)
        >>> list(names)
        ['torch', 'draw']
    """
    for name in [name for name, value in names.items() if not _stays(name, value)]:
        del names[name]
    gc.collect()  # networks refer to themselves in circles
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _stays(name: str, value: Any) -> bool:
    """Whether a name of a notebook is a tool: imported, defined, or IPython's own."""
    of_ipython = name.startswith("_") or name in ("In", "Out", "exit", "quit")
    return of_ipython or inspect.ismodule(value) or inspect.isroutine(value) or inspect.isclass(value)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switches autocast and the short formats that stand in for float32 (TF32, bfloat16) off.

    The formats belong to the whole process. Where several threads ask for this, they come back when the last is done.

    Arguments:
        device: where the model is.

    Example:
        >>> with full_precision(torch.device("cpu")):
        ...     torch.get_float32_matmul_precision()
        'highest'
    """
    with _formats.lock:
        if not _formats.asked:
            _formats.restore = _without_short_formats()
        _formats.asked += 1
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        with _formats.lock:
            _formats.asked -= 1
            if not _formats.asked:
                _formats.restore()


# How many threads ask for full precision, and what gives the process back the formats that it had.
_formats = SimpleNamespace(lock=threading.Lock(), asked=0, restore=None)


def _without_short_formats() -> Callable[[], None]:
    """Switches the short formats off, and gives what switches them on again."""
    before = [(backend, backend.fp32_precision) for backend in _with_formats()]
    matmul = _if_readable(torch.get_float32_matmul_precision)
    convolution = _if_readable(lambda: torch.backends.cudnn.allow_tf32)
    for backend, _ in before:
        backend.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False

    def restore() -> None:
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        if convolution is not None:
            torch.backends.cudnn.allow_tf32 = convolution
        for backend, wanted in before:
            if backend.fp32_precision != wanted:
                backend.fp32_precision = wanted

    return restore


def _with_formats() -> list:
    """What has a setting `fp32_precision` of its own, the wider before the narrower."""
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    return [torch.backends, cuda.matmul, cudnn, cudnn.conv, cudnn.rnn, mkldnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]


def _if_readable(read: Callable[[], Any]) -> Any:
    """A setting by its older name; None where somebody has used the newer one: PyTorch then refuses to read it."""
    try:
        return read()
    except RuntimeError:
        return None


# PyTorch 2.9 says once in a process that these settings have newer names. Both are needed: it may say so here, unheard.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    _if_readable(torch.get_float32_matmul_precision)
