"""Windows: the frames of a recording that tell what happens at one moment, the keyframe."""

from typing import Annotated, Literal

import numpy as np

from thermal_action.params import Field, section

Sampling = Literal["consecutive", "uniform_time", "whole"]
CENTRED = 0.5


@section
class Windowing:
    """The section `window`: `length` frames around a keyframe, the same for every sample and whoever uses the model.

    keyframe: where in the window the keyframe stands, from 0 (first frame) over 0.5 (length // 2) to 1 (last frame: a causal
    window, which looks at nothing that is yet to come).
    """

    length: Annotated[int, Field(ge=2, le=1024)]  # frames
    sampling: Sampling
    period_ms: Annotated[float, Field(gt=0, le=60_000)]  # of the clock of uniform_time
    keyframe: Annotated[float, Field(ge=0, le=1)]

    @property
    def position(self) -> int:
        """Of the keyframe in the window, from 0."""
        return keyframe_position(self.length, self.keyframe)

    def frames(self, timestamps: np.ndarray, centre: int) -> np.ndarray:
        """int64 [length] frame indices of the window whose keyframe is frame `centre` of a recording; timestamps [N] ms.

        `consecutive` takes the frames as they came; `uniform_time` takes the frame nearest to each tick of a clock of
        `period_ms` through the keyframe. Beyond the ends of the recording its first and last frame repeat. `whole` takes frames
        spread evenly over all the recording, a clip, wherever its keyframe stands.
        """
        if self.sampling == "whole":
            return spread_evenly(len(timestamps), self.length)
        steps = np.arange(self.length) - self.position
        if self.sampling == "consecutive":
            return np.clip(centre + steps, 0, len(timestamps) - 1)
        return nearest_frames(timestamps, timestamps[centre] + steps * self.period_ms)


def spread_evenly(total: int, count: int) -> np.ndarray:
    """int64 [count] numbers of `total` things, the middles of so many equal parts; some come twice where there are fewer."""
    return (2 * np.arange(count) + 1) * total // (2 * count)


def keyframe_position(length: int, keyframe: float = CENTRED) -> int:
    """Index, in a row of `length` moments of a window, of the one in which the keyframe lies."""
    return min(int(keyframe * length), length - 1)


def nearest_frames(timestamps: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Index of the frame nearest to each time; the earlier one of two equally near."""
    after = np.clip(np.searchsorted(timestamps, times), 0, len(timestamps) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(np.abs(times - timestamps[before]) <= np.abs(timestamps[after] - times), before, after)
