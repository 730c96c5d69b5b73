"""Several processes for one program: `Processes`, as `launched` by `torchrun`; they work `together`, or one goes on
`alone`."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .errors import require


class Processes(NamedTuple):
    """The processes that `torchrun` started for one program, as one of them sees them.

    Arguments:
        rank: which one this is, from 0; 0 is the main one, which writes the files.
        count: how many there are.

    Example:
        >>> [Processes(rank, 3).share(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """

    rank: int = 0
    count: int = 1

    def share(self, number: int) -> slice:
        """Says which of so many things are this process's: neighbours, as many as another's or one more or less."""
        return slice(number * self.rank // self.count, number * (self.rank + 1) // self.count)

    def sum(self, tensor: Tensor) -> Tensor:
        """Adds up the tensors of all processes, of one shape and on the CPU, in place."""
        if self.count > 1:
            torch.distributed.all_reduce(tensor, group=_group(torch.distributed.group.WORLD))
        return tensor

    def all(self, tensor: Tensor) -> Tensor:
        """Gives the tensors of all processes, of one shape and on the CPU, one after the other: `[count, …]`."""
        every = tensor.new_zeros(self.count, *tensor.shape)
        every[self.rank] = tensor
        return self.sum(every)

    def join(self, tensor: Tensor) -> Tensor:
        """Puts together what each process made of its share along the first axis, in place."""
        if self.count > 1:
            mine = self.share(len(tensor))
            part = tensor[mine].clone()
            tensor.zero_()[mine] = part
        return self.sum(tensor)


_alone: ContextVar[bool] = ContextVar("alone", default=False)
LONGEST_WAIT = timedelta(minutes=10)  # of one process for another, where they meet


def launched() -> Processes:
    """Finds the processes that `torchrun` started for this program, and makes them known to each other.

    Example:
        >>> launched()
        Processes(rank=0, count=1)
    """
    distributed = torch.distributed
    if _alone.get() or not distributed.is_available():
        return Processes()
    if not distributed.is_initialized():
        if not distributed.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
            return Processes()
        distributed.init_process_group()
        if torch.accelerator.is_available():
            torch.accelerator.set_device_index(int(os.environ["LOCAL_RANK"]))
    return Processes(distributed.get_rank(), distributed.get_world_size())


@cache
def _group(world: Any) -> Any:
    """A connection through which CPUs talk, beside that of the GPUs."""
    return torch.distributed.new_group(backend="gloo")


@contextmanager
def alone() -> Iterator[None]:
    """Lets one process do by itself what all would share, such as to sample while the others do something else.

    Example:
        >>> with alone():
        ...     launched()
        Processes(rank=0, count=1)
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def together(task: str, **given: Any) -> Processes:
    """Waits for all processes, and sees to it that they came with the same, as is needed to share the work.

    Arguments:
        task: what is to be done, for the errors.
        given: what must be the same, by name: tensors and models by their values, anything else by its text.

    Raises:
        ValueError: when processes came with different things.
        RuntimeError: when one did not come.

    Example:
        >>> together("a sum", of=torch.ones(3))
        Processes(rank=0, count=1)
    """
    found = launched()
    if found.count > 1:
        _wait_for_all(task, found)
        marks = found.all(torch.tensor([_mark(value) for value in given.values()]))
        for name, same in zip(given, (marks == marks[0]).all(0).tolist(), strict=True):
            require(
                same,
                f"{task} got another {name} in one process than in another: give all the same, the work is shared "
                "by itself; or let each work for itself, inside `with pixelhelpers.processes.alone():`.",
            )
    return found


def _wait_for_all(task: str, found: Processes) -> None:
    try:
        world = torch.distributed.group.WORLD
        torch.distributed.monitored_barrier(_group(world), LONGEST_WAIT, wait_all_ranks=True)
    except RuntimeError as error:
        raise RuntimeError(
            f"{task} shares its work among {found.count} processes, and not all came: call it in every one, or in one "
            f"alone, inside `with pixelhelpers.processes.alone():` ({str(error).splitlines()[0]})."
        ) from None


def _mark(value: Any) -> int:
    """A number that is the same for the same value."""
    if isinstance(value, nn.Module):
        return hash(tuple(_mark(weight) for weight in value.parameters()))
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return zlib.crc32(content, zlib.crc32(str(tuple(value.shape)).encode()))
    return zlib.crc32(repr(value).encode())
