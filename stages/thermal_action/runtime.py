"""The section `runtime`: how fast a stage runs, never what comes out; DVC does not track it."""

import os
from typing import Annotated, Literal

from thermal_action.params import Field, section


@section
class Runtime:
    processes: Annotated[int, Field(ge=0, le=256)]  # that convert recordings side by side; 0 = one per core
    workers: Annotated[int, Field(ge=0, le=64)]  # that load windows for train and evaluate; 0 = load in the main process
    threads: Annotated[int, Field(ge=0, le=256)]  # of torch on the CPU; 0 = one per core
    device: Literal["auto", "cpu", "cuda"]

    @property
    def cores(self) -> int:
        return self.processes or len(os.sched_getaffinity(0))
