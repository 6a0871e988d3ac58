"""What a run of MMAction2 on our windows does beside its steps."""

from collections.abc import Iterator
from typing import Any

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from thermal_action.mmaction2.dataset import ThermalWindows


@HOOKS.register_module()
class ThermalEpochHook(Hook):
    """Tells every ThermalWindows which epoch comes: without it each shows the same augmentation."""

    def before_train_epoch(self, runner: Runner) -> None:
        """See mmengine.hooks.Hook."""
        for data in find_windows(runner.train_dataloader.dataset):
            data.set_epoch(runner.epoch)


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Leaves the history of logged losses out of checkpoints, so that they hold nothing but weights, numbers and texts.

    The Runner cannot read its own ones otherwise: it leaves `weights_only` to torch, which is true since 2.6, and the history
    would need whatever pickle can do (mmengine#1655). A resumed run's first lines of log are means over fewer steps.
    """

    priority = "LOWEST"

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """See mmengine.hooks.Hook."""
        hub = checkpoint["message_hub"]
        # not isinstance: numpy's float64 is a float, and no plain one
        kept = {key: value for key, value in hub["runtime_info"].items() if type(value) in (bool, int, float, str)}
        checkpoint["message_hub"] = {"log_scalars": {}, "runtime_info": kept, "resumed_keys": dict.fromkeys(kept, True)}


def find_windows(data: Any) -> Iterator[ThermalWindows]:
    """Those within wrappers: ClassBalancedDataset, RepeatDataset, ConcatDataset."""
    if isinstance(data, ThermalWindows):
        yield data
    for inner in getattr(data, "datasets", [data.dataset] if hasattr(data, "dataset") else []):
        yield from find_windows(inner)
