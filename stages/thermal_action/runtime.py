"""The section `runtime`: how fast a stage runs, never what comes out; DVC does not track it."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from typing import TYPE_CHECKING, Annotated, Literal

from thermal_action import InputError
from thermal_action.params import Field, section

if TYPE_CHECKING:
    from distributed import Client


@section
class Runtime:
    processes: Annotated[int, Field(ge=0, le=256)]  # that convert recordings side by side; 0 = one per core
    dask: str | None  # address of the scheduler of a Dask cluster, whose workers convert them in their place
    ranks: Annotated[int, Field(ge=1, le=1024)]  # that train together
    workers: Annotated[int, Field(ge=0, le=64)]  # that load windows for train and evaluate; 0 = load in the main process
    cache_mb: Annotated[int, Field(ge=0, le=1_000_000)]  # of decoded frames, in each process
    threads: Annotated[int, Field(ge=0, le=256)]  # of torch on the CPU, in each rank; 0 = one per core
    device: Literal["auto", "cpu", "cuda"]

    @property
    def cores(self) -> int:
        return self.processes or len(os.sched_getaffinity(0))

    @contextmanager
    def open_pool(self) -> Iterator[Executor]:
        """Who does the work on single recordings: processes here, or those of the cluster. InputError when one of them dies."""
        try:
            with self.open_cluster() if self.dask else ProcessPoolExecutor(self.cores, get_context("spawn"), say_nothing) as pool:
                yield pool
        except BrokenProcessPool:  # HDF5 crashes where it cannot write
            raise InputError("a process that wrote recordings was ended by the system: see that the disk has space and the"
                             " machine memory, then run it again") from None

    @contextmanager
    def open_cluster(self) -> Iterator[Executor]:
        from distributed import Client, KilledWorker

        try:
            client = Client(self.dask, timeout=10)
        except (OSError, ValueError):
            raise InputError(f"params.yaml: runtime.dask {self.dask} is no Dask scheduler that answers: start one there (`dask"
                             " scheduler`), or set it to null") from None
        try:
            with client, client.get_executor() as pool:
                self.require_library(client)
                yield pool
        except KilledWorker as error:
            raise BrokenProcessPool from error

    def require_library(self, client: "Client") -> None:
        """InputError where a process of the cluster would not know what it is asked to do."""
        found = {"its scheduler": client.run_on_scheduler(find_spec, __package__), **client.run(find_spec, __package__)}
        for process, library in found.items():
            if library is None:
                raise InputError(f"params.yaml: runtime.dask {self.dask}: {process} does not find the library: start scheduler"
                                 " and workers here, with PYTHONPATH=stages in their environment")


def say_nothing() -> None:
    """Of a worker, whose jobs give their errors back: h5py prints a traceback for every object of a file it cannot finish."""
    sys.excepthook = sys.unraisablehook = lambda *_: None
