"""When actions begin and end: ActionFormer (Zhang et al., ECCV 2022) through its package `actionformer`, on features over time.

Importing it turns TorchScript off, before torch is imported: its profiling executor computes the first steps of a process
differently, and a resumed run would differ from an uninterrupted one.
"""

import os
import warnings
from importlib.util import find_spec

from thermal_action import InputError

os.environ["PYTORCH_JIT"] = "0"
# of the package's losses, which TorchScript no longer compiles here
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)


def require_package() -> None:
    """InputError where only what the other stages need is installed."""
    if find_spec("actionformer") is None:
        raise InputError("the package actionformer is not installed: run `make localize`")
