from typing import Annotated

from stages.lib.core.sections import NotNegative, Threads, section, unit


@section
class MachineParams:
    """`machine`: what changes how long a stage takes and no byte of its outs, so that dvc does not look at it."""

    workers: Threads = 0
    """Processes of ingest, statistics and dataset; 0 is one per core."""

    checkpoint_minutes: Annotated[NotNegative, unit("minutes")] = 10.0
    """Time between checkpoints within an epoch of training; every epoch ends with one."""
