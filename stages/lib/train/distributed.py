"""Several processes training one model: each sees its share of every batch, and gradients and sums are added up.

What a single process would draw, order, augmentation and dropout masks, every process draws whole and uses its share
of; batch normalisation takes its statistics over all shares (`shared_layers`). So the losses are those of one process,
to rounding; and to the bit where each computes whole parts of the batch (`parts`).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from stages.lib.core.errors import UserError

RESTARTS = 3  # of all workers, from the checkpoint, after one was lost


@dataclass(frozen=True)
class World:
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1


def launched() -> bool:
    """True in a process that torchrun, or `launch`, has started."""
    return "LOCAL_RANK" in os.environ and "RANK" in os.environ


def launch(work: Callable[..., None], processes: int, arguments: dict[str, Any]) -> None:
    """Runs `work(**arguments)` in so many processes of this machine, under torch's elastic launcher.

    Raises:
        UserError: A worker raised one, or workers were lost more often than they are restarted.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        max_restarts=RESTARTS,
        monitor_interval=0.5,
        start_method="spawn",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="train",
    )
    try:
        answers = elastic_launch(config, _work)(work, arguments)
    except SignalException as stopped:  # the workers have saved where they were
        raise SystemExit(128 + stopped.sigval) from None
    except ChildFailedError as error:
        raise UserError(
            f"train.processes: workers were lost {RESTARTS + 1} times; the run goes on from its checkpoint when it is "
            f"started again\n{error}"
        ) from None
    if message := answers[0]:
        raise UserError(message)


def _work(work: Callable[..., None], arguments: dict[str, Any]) -> str | None:
    """In a worker: a user's mistake is an answer, not a failure, for a restart would not mend it."""
    try:
        work(**arguments)
    except UserError as error:
        return str(error)
    return None


def local_rank() -> int:
    """Which of this machine's processes this is."""
    return int(os.environ["LOCAL_RANK"]) if launched() else 0


@contextmanager
def joined(device: torch.device, threads: int) -> Iterator[World]:
    """Meets the processes that were started with this one; alone if there are none.

    Args:
        threads: Of all processes of a machine together.
    """
    if not launched():
        yield World()
        return
    torch.set_num_threads(max(1, (threads or os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"])))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Workers that are started again meet at the same store, where those that were lost have left their addresses.
    store, rank, size = next(torch.distributed.rendezvous("env://"))
    fresh = torch.distributed.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=fresh, rank=rank, world_size=size)
    try:
        yield World(rank, size)
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def together(world: World) -> Iterator[None]:
    """A user's mistake that one process meets ends all of them: none waits for one that has left.

    Raises:
        UserError: Any process has met one in the block.
    """
    message = ""
    try:
        yield
    except UserError as error:
        message = str(error)
    messages = [message] * world.size
    if world.size > 1:
        torch.distributed.all_gather_object(messages, message)
    if met := next(filter(None, messages), ""):
        raise UserError(met)


def add_up(tensor: Tensor) -> None:
    """Sums a tensor over the processes, in place.

    Sums, where torch's DistributedDataParallel averages: the shares of a batch need not be of one size.
    """
    torch.distributed.all_reduce(tensor)


def gather(world: World, tensor: Tensor) -> list[Tensor]:
    """Every process's tensor, all of one shape, in the order of the ranks."""
    if world.size == 1:
        return [tensor]
    found = [torch.empty_like(tensor) for _ in range(world.size)]
    torch.distributed.all_gather(found, tensor)
    return found
