"""The section `runtime`: how fast a stage runs, never what comes out; DVC does not track it."""

import os
from typing import Annotated, Literal

from thermal_action.params import Field, section


@section
class Runtime:
    processes: Annotated[int, Field(ge=0, le=256)]  # that convert recordings side by side; 0 = one per core
    ranks: Annotated[int, Field(ge=1, le=1024)]  # that train together
    workers: Annotated[int, Field(ge=0, le=64)]  # that load windows for train and evaluate; 0 = load in the main process
    cache_mb: Annotated[int, Field(ge=0, le=1_000_000)]  # of decoded frames, in each process
    threads: Annotated[int, Field(ge=0, le=256)]  # of torch on the CPU, in each rank; 0 = one per core
    device: Literal["auto", "cpu", "cuda"]

    @property
    def cores(self) -> int:
        return self.processes or len(os.sched_getaffinity(0))
