"""What MMAction2 1.2.0 lacks beside current torch, numpy and mmcv-lite; each does nothing where it is not needed.

With these, recognition, detection on boxes (AVARoIHead) and AVA's evaluation run on the packages of requirements-mmaction2.txt;
resuming needs PlainCheckpointHook (hooks.py). Operators that mmcv-lite has not (NMS, deformable convolution, RoIPool) end with a
sentence.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from types import ModuleType

import numpy as np


def install() -> None:
    """All of them; call it before the first import from mmaction.models."""
    provide_drn()
    restore_numpy_names()
    import_detection()


def provide_drn() -> None:
    """A localizer that mmaction.models imports and the wheel lacks, for its folder has no __init__.py (mmaction2#2714)."""
    name = "mmaction.models.localizers.drn"
    if f"{name}.drn" in sys.modules:
        return
    package, module = ModuleType(name), ModuleType(f"{name}.drn")
    module.DRN = type("DRN", (), {})
    sys.modules |= {name: package, f"{name}.drn": module}


def restore_numpy_names() -> None:
    """Names that numpy 2 took away: AVA's evaluation says np.NAN of a class that has detections and no ground truth; np.Inf
    stands in the transforms of poses (mmaction2 1.2.0 is of 2023, numpy 2 of 2024)."""
    for name, value in (("NAN", np.nan), ("Inf", np.inf)):
        if name not in vars(np):
            setattr(np, name, value)


def import_detection() -> None:
    """mmdet and MMAction2's RoI head, which import mmcv's compiled operators, though RoIAlign has torchvision's at hand.

    A compiled mmcv that this torch can load is not to be had: its setup asks for pkg_resources and C++17, torch for C++20
    (mmcv#3340, mmcv#3341). Without this, MMAction2 passes over the failed import, and AVARoIHead "is not in the registry".
    """
    if importlib.util.find_spec("mmcv._ext") is not None or importlib.util.find_spec("mmdet") is None:
        return
    with stand_in("mmcv._ext"):
        importlib.import_module("mmdet.models")
        importlib.import_module("mmaction.models")
        from mmcv.ops import RoIAlign
    RoIAlign.__init__ = partialmethod(RoIAlign.__init__, use_torchvision=True)


@contextmanager
def stand_in(name: str) -> Iterator[None]:
    """While others import it, a module that has whatever it is asked for; removed, as mmengine takes it for a compiled one."""
    module = ModuleType(name)
    module.__getattr__ = missing_operator
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]


def missing_operator(name: str) -> Callable:
    if name.startswith("__"):  # what Python itself asks of a module
        raise AttributeError(name)

    def refuse(*arguments: object, **options: object) -> None:
        raise NotImplementedError(f"mmcv-lite has no compiled {name}: build mmcv 2.1.0 for this torch, or do without it")
    return refuse
