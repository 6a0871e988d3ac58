"""The sensor: equidistant lens, image circle, noise, defects, quantisation, and the radio link that stamps and cuts frames.

Figures: measured on 23 public recordings of a ceiling-mounted Heimann HTPA60x40d with an L1.4 lens, unless noted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# the measured sensor: 40 rows x 60 columns, pixel pitch 45 um behind a 1.4 mm lens (1.84 degrees a pixel)
MEASURED_ROWS, MEASURED_COLS = 40, 60
FOCAL_PX = 1.4 / 0.045
# blur of a point as seen in the pixels, the box of one pixel folded in
PSF_SIGMA_PX = 0.65
# inside the image circle the scene is seen, on its rim the warm housing; where the rim starts differs by session
RIM_RADIUS_PX = (24.5, 29.5)
RIM_END_PX = 31.5
HOUSING_OFFSET_C = (2.2, 2.9)
# temporal noise by distance from the centre: px, then C
NOISE_RADIUS_PX = (4.5, 12.0, 18.0, 22.5, 25.5, 28.5, 31.5, 34.0)
NOISE_STD_C = (0.197, 0.202, 0.216, 0.234, 0.255, 0.297, 0.417, 1.76)
NOISE_NEIGHBOUR_SHARE = 0.009
COMMON_MODE_STD_C = 0.035
# static pattern: 0.3 C in all, of which little is white from pixel to pixel, and most of that is new every session
FIXED_PATTERN_STD_C, FIXED_PATTERN_WHITE_C, FIXED_PATTERN_DAY_C = 0.22, 0.08, 0.12
FIXED_PATTERN_OUTSIDE_STD_C = 1.6
# the measured sensor has one of 2400; the datasheet of an MLX90640 allows 4 of 768
DEAD_PIXEL_SHARE = (1 / 2400, 3 / 2400)
DEAD_PIXEL_C = (-5.6, -4.6)
LSB_C = 0.1
ZERO_C_IN_DK = 2731.5
# what arrives of a cut frame is closed up, and its end is left at 0 dK, that is -273.2 C
LOST_DK = 0
# packets of a frame: of 2400 pixels four of 576 and one of 96. Of a cut one 96, 672, 1248 or 1824 pixels arrive, for the last
# packet, which ends the frame, is never missing; the first one is missing twice as often as another
PACKET_PX = 576
FIRST_PACKET_WEIGHT = 2.0
LOST_PACKETS_COUNTS = (817, 259, 130, 38)
# a clean link stalls about every tenth frame by 335 ms and then delivers what waited, 30-40 ms apart
CLEAN_STALL_EVERY, CLEAN_STALL_MS = 10, 345.0
BAD_STALL_EVERY, BAD_STALL_MS, BAD_STALL_MAX_MS = 16, 2600.0, 4400.0
BURST_SPACING_MS = 36.0
BAD_DROPPED_SHARE = 0.02


@dataclass(frozen=True)
class Camera:
    """A ceiling camera that looks straight down on the origin; x to the right, y down the picture, z up, in metres."""

    rows: int
    cols: int
    height_m: float

    @property
    def scale(self) -> float:
        """Size of a picture of the measured sensor's field of view, 1 for 40 x 60: the diagonal's angle is kept."""
        return float(np.hypot(self.rows, self.cols) / np.hypot(MEASURED_ROWS, MEASURED_COLS))

    @property
    def focal_px(self) -> float:
        return FOCAL_PX * self.scale

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[..., 3] m -> column, row (pixel centres are whole numbers) and px per metre there: r = f * theta."""
        x, y, depth = points[..., 0], points[..., 1], self.height_m - points[..., 2]
        across = np.hypot(x, y)
        stretch = self.focal_px * np.arctan2(across, depth) / np.maximum(across, 1e-6)
        per_metre = self.focal_px / np.sqrt(across**2 + depth**2)
        return (self.cols - 1) / 2 + stretch * x, (self.rows - 1) / 2 + stretch * y, per_metre

    def rays(self, supersample: int) -> np.ndarray:
        """Unit directions [rows * s, cols * s, 3] of the sub-pixels."""
        v, u = np.meshgrid(*((np.arange(n * supersample) + 0.5) / supersample - n / 2 for n in (self.rows, self.cols)),
                           indexing="ij")
        radius = np.hypot(u, v)
        theta = radius / self.focal_px
        sine = np.sin(theta) / np.maximum(radius, 1e-6)
        return np.stack([u * sine, v * sine, -np.cos(theta)], axis=-1)

    def floor_reach(self) -> tuple[float, float]:
        """Half width and half height in metres of the floor that is well inside the picture."""
        circle = RIM_RADIUS_PX[0] * self.scale
        half = (min(self.cols / 2, circle), min(self.rows / 2, circle))
        return tuple(self.height_m * float(np.tan(0.93 * px / self.focal_px)) for px in half)

    def radius_px(self) -> np.ndarray:
        """[rows, cols] distance from the centre, in pixels of the measured sensor."""
        v, u = np.mgrid[: self.rows, : self.cols]
        return np.hypot(u - (self.cols - 1) / 2, v - (self.rows - 1) / 2) / self.scale


def smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Separable Gaussian blur with repeated edges, sigma in pixels."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(picture, [(reach, reach) if axis == a else (0, 0) for a in (0, 1)], mode="edge")
        picture = sum(weight * np.take(padded, range(i, i + picture.shape[axis]), axis=axis)
                      for i, weight in enumerate(kernel))
    return picture


class Sensor:
    """One device on one day: rim, fixed pattern, defects and noise.

    `device` seeds what stays with the device, `day` what changes from session to session.
    """

    def __init__(self, camera: Camera, device: np.random.Generator, day: np.random.Generator, ambient_c: float):
        radius = camera.radius_px()
        shape = radius.shape
        v, u = np.mgrid[: camera.rows, : camera.cols]
        shift = device.normal(0, 0.5, 2)
        circle = np.hypot(u - (camera.cols - 1) / 2 - shift[0] * camera.scale,
                          v - (camera.rows - 1) / 2 - shift[1] * camera.scale) / camera.scale
        outside = smoothstep((radius - RIM_END_PX + 1) / 2.5)
        pattern = FIXED_PATTERN_STD_C * 2 * blur(device.normal(0, 1, shape), 1.0 + 1.2 * camera.scale)
        pattern += device.normal(0, FIXED_PATTERN_WHITE_C, shape) + day.normal(0, FIXED_PATTERN_DAY_C, shape)
        self.fixed_pattern = (pattern * (1 - outside) + device.normal(0, FIXED_PATTERN_OUTSIDE_STD_C, shape) * outside
                              - 1.1 * np.maximum(circle - RIM_END_PX, 0))
        self.dead = []
        for _ in range(max(1, round(camera.rows * camera.cols * device.uniform(*DEAD_PIXEL_SHARE)))):
            pixel = int(device.integers(camera.rows)), int(device.integers(camera.cols))
            self.dead.append((*pixel, float(device.uniform(*DEAD_PIXEL_C))))
        for row, col, deviation in self.dead:
            self.fixed_pattern[row, col] = deviation
        start = day.uniform(*RIM_RADIUS_PX)
        # the lens is not quite round: the rim is a little wider on one side
        start = start + 0.8 * np.cos(np.arctan2(v - camera.rows / 2, u - camera.cols / 2) - device.uniform(0, 2 * np.pi))
        self.rim = smoothstep((circle - start) / 2.5).astype(np.float32)
        self.housing_c = np.float32(ambient_c + day.uniform(*HOUSING_OFFSET_C))
        self.noise_std = np.interp(radius, NOISE_RADIUS_PX, NOISE_STD_C).astype(np.float32)
        self.fixed_pattern = self.fixed_pattern.astype(np.float32)

    def expose(self, scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Scene temperatures float32 [n, rows, cols] C -> what the sensor reports, int16 deci-Kelvin."""
        n = len(scene)
        noise = rng.standard_normal(scene.shape, dtype=np.float32)
        noise[:, :, 1:] += NOISE_NEIGHBOUR_SHARE * 2 * noise[:, :, :-1]
        noise *= self.noise_std
        noise += rng.normal(0, COMMON_MODE_STD_C, (n, 1, 1)).astype(np.float32)
        noise += scene
        noise += self.rim * (self.housing_c - scene) + self.fixed_pattern
        return np.rint(noise / np.float32(LSB_C) + np.float32(ZERO_C_IN_DK)).astype(np.int16)


@dataclass(frozen=True)
class Arrivals:
    """A block of frames: when each was taken (s since the session's start), stamped (ms), and which of its packets arrived."""

    captured_s: np.ndarray
    stamped_ms: np.ndarray
    sequence: np.ndarray
    arrived: np.ndarray  # bool [n, packets]


def receive_frames(seed: list[int], *, fps: float, pixels: int, loss: float, bad: bool, block: int) -> Iterator[Arrivals]:
    """Endless blocks of arrivals at one device's server; `seed` belongs to the session.

    The sensor takes frames at an even pace; the link stalls, then delivers in bursts, and stamps at arrival. On a bad link
    frames also vanish whole, and a share `loss` of the rest comes cut.
    """
    period = 1000 / fps
    packets = -(-pixels // PACKET_PX)
    weights = np.array(LOST_PACKETS_COUNTS[: packets - 1])
    phase = int(np.random.default_rng(seed).integers(CLEAN_STALL_EVERY))
    queue, last, number = -np.inf, -1, 0
    while True:
        rng = np.random.default_rng([*seed, 1 + number])
        index = number * block + np.arange(block)
        delay = 60 + np.abs(rng.normal(0, 14, block))
        if bad:
            stall = rng.exponential(BAD_STALL_MS, block) * (rng.random(block) < 1 / BAD_STALL_EVERY)
            delay += np.minimum(stall, BAD_STALL_MAX_MS)
        else:
            delay += rng.normal(CLEAN_STALL_MS, 12, block) * ((index + phase) % CLEAN_STALL_EVERY == 0)
        # what waited is delivered one spacing after the other: a running maximum of the time that is left without spacing
        waited = np.maximum.accumulate(np.maximum(index * (period - BURST_SPACING_MS) + delay, queue))
        queue = waited[-1]
        stamped = np.rint(waited + index * BURST_SPACING_MS + rng.uniform(-3, 3, block)).astype(np.int64)
        stamped = np.maximum.accumulate(np.maximum(stamped - index, last + 1 - index[0])) + index
        last = int(stamped[-1])
        arrived = np.ones((block, packets), dtype=bool)
        if loss and len(weights):
            lost = (1 + rng.choice(len(weights), block, p=weights / weights.sum())) * (rng.random(block) < loss)
            order = rng.random((block, packets - 1))
            order[:, 0] /= FIRST_PACKET_WEIGHT
            arrived[:, :-1] = order.argsort(axis=1).argsort(axis=1) >= lost[:, None]
        kept = rng.random(block) >= (BAD_DROPPED_SHARE if bad else 0)
        yield Arrivals(index[kept] * period / 1000, stamped[kept], index[kept], arrived[kept])
        number += 1
