"""What training varies on purpose: windows that the sensor could have seen, with boxes and labels that stay true."""

from typing import Annotated

from thermal_action.params import Field, section

Share = Annotated[float, Field(ge=0, le=1)]


@section
class Augment:
    """The section `train.augment`."""

    flip_horizontal: Share
    flip_vertical: Share
    shift_px: Annotated[int, Field(ge=0, le=64)]
    contrast: Annotated[float, Field(ge=0, lt=1)]
    offset_c: Annotated[float, Field(ge=0, le=20)]
    noise_c: Annotated[float, Field(ge=0, le=5)]
    box_jitter: Annotated[float, Field(ge=0, le=0.4)]
