"""Several processes train one model: each computes its parts of every batch, and gradients and sums are added up.

Every process draws the order, augmentation and dropout masks of the whole batch, as a single process would, and uses
those of its parts. Batch normalisation takes its statistics over all processes (`synchronised_layers`). So the losses
are those of one process up to rounding; and to the bit where each process computes whole parts (`batch_parts`).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from stages.lib.core.errors import WAYS_OUT, UserError, explain
from stages.lib.core.terminal import escape_output

MAX_RESTARTS = 3  # of all workers, from the checkpoint, after one of them was lost
START_METHOD = "spawn"  # of multiprocessing; a fork would share torch's threads and CUDA with the parent


@dataclass(frozen=True)
class World:
    """This process's place among all that train the model."""

    rank: int = 0  # from 0
    size: int = 1  # number of processes


def is_launched() -> bool:
    """Whether torchrun, or `launch`, has started this process."""
    return "LOCAL_RANK" in os.environ and "RANK" in os.environ


def launch(work: Callable[..., None], processes: int, arguments: dict[str, Any]) -> None:
    """Runs `work(**arguments)` in several processes of this machine, under torch's elastic launcher.

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
        max_restarts=MAX_RESTARTS,
        monitor_interval=0.5,
        start_method=START_METHOD,
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
            f"train.processes: workers were lost {MAX_RESTARTS + 1} times; the run goes on from its checkpoint when it "
            f"is started again\n{error}"
        ) from None
    if message := answers[0]:
        raise UserError(message)


def _work(work: Callable[..., None], arguments: dict[str, Any]) -> str | None:
    """Runs in a worker, and returns a user's mistake as its message: a failure would restart the worker in vain."""
    escape_output()
    try:
        work(**arguments)
    except (UserError, OSError) as error:
        return _message(error)
    return None


def _message(error: Exception) -> str:
    """Of a user's mistake, or of what the operating system refused.

    Raises:
        OSError: The error itself, where it is a bug.
    """
    if not isinstance(error, OSError):
        return str(error)
    if error.errno not in WAYS_OUT:
        raise error
    return explain(error)


def local_rank() -> int:
    """This process's number among those of this machine."""
    return int(os.environ["LOCAL_RANK"]) if is_launched() else 0


@contextmanager
def process_group(device: torch.device, threads: int) -> Iterator[World]:
    """Connects to the processes that were started with this one, if there are any.

    Args:
        threads: Of all processes of a machine together; 0 is one per core.
    """
    if not is_launched():
        yield World()
        return
    torch.set_num_threads(max(1, (threads or os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"])))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Restarted workers meet at the same store, which still holds the addresses of lost ones: hence a prefix per start.
    store, rank, size = next(torch.distributed.rendezvous("env://"))
    fresh = torch.distributed.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=fresh, rank=rank, world_size=size)
    try:
        yield World(rank, size)
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def failing_together(world: World) -> Iterator[None]:
    """A user's mistake found by one process, or a full disk, ends all of them: none waits for one that has left.

    Raises:
        UserError: Any process raised one in the block.
    """
    own: UserError | None = None
    try:
        yield
    except UserError as error:
        own = error
    except OSError as error:
        own = UserError(_message(error))
    errors = [own] * world.size
    if world.size > 1:
        torch.distributed.all_gather_object(errors, own)
    if first := next((error for error in errors if error is not None), None):
        raise first


def add_up(tensor: Tensor) -> None:
    """Sums a tensor over the processes, in place.

    Not averaged, as torch's DistributedDataParallel would: the processes' parts of a batch may differ in size.
    """
    torch.distributed.all_reduce(tensor)


def gather(world: World, tensor: Tensor) -> list[Tensor]:
    """Every process's tensor, all of one shape, in the order of the ranks."""
    if world.size == 1:
        return [tensor]
    gathered = [torch.empty_like(tensor) for _ in range(world.size)]
    torch.distributed.all_gather(gathered, tensor)
    return gathered
