"""People as capsules in 3-D: postures, how one turns into the next, and what a blurred pixel sees of them."""

from dataclasses import dataclass

import numpy as np

from thermal_action.sources.simulator.camera import PSF_SIGMA_PX, Camera, smoothstep

# a pose is [13, 3]: the hip's place (m), then unit directions, in a frame with x ahead, y to the left, z up
HIP, TORSO, SHOULDERS, HIPS, HEAD, ARM_L, FOREARM_L, ARM_R, FOREARM_R, THIGH_L, SHIN_L, THIGH_R, SHIN_R = range(13)
# metres of a person 1.72 m tall
STATURE_M = 1.72
TORSO_M, HEAD_M, SHOULDER_M, HIP_M, ARM_M, FOREARM_M, THIGH_M, SHIN_M = 0.50, 0.19, 0.150, 0.08, 0.28, 0.33, 0.43, 0.45
# capsules: joint, joint, radius in m at each (joints as in `joints`)
CAPSULES = (
    (0, 1, 0.140, 0.130), (3, 6, 0.090, 0.090), (9, 12, 0.120, 0.120), (2, 2, 0.105, 0.105),
    (3, 4, 0.060, 0.054), (4, 5, 0.050, 0.046), (6, 7, 0.060, 0.054), (7, 8, 0.050, 0.046),
    (9, 10, 0.092, 0.072), (10, 11, 0.066, 0.058), (12, 13, 0.092, 0.072), (13, 14, 0.066, 0.058),
)
ENDS = np.array([capsule[:2] for capsule in CAPSULES]).T
WIDEST_M = max(max(capsule[2:]) for capsule in CAPSULES)
DRAWN_AT_ONCE = 12
# warmth of each capsule's ends above the room, C, at 1 clo and 18 C (ISO 7730: clothes 5.0-6.7; skin and hair 6-8.5)
WARMTH_C = (
    (5.8, 6.0), (5.6, 5.6), (5.7, 5.7), (7.5, 7.5),
    (5.1, 4.8), (4.6, 6.2), (5.1, 4.8), (4.6, 6.2),
    (5.5, 5.1), (4.8, 3.6), (5.5, 5.1), (4.8, 3.6),
)
# clothes are not evenly warm: share of the warmth, and the size of the pattern
FOLDS_STD, FOLDS_PX = 0.09, 48
COVERED_BY_BLANKET = np.array([1, 0.4, 1, 0, 0.6, 0.6, 0.6, 0.6, 1, 1, 1, 1], dtype=np.float32)


def make_pose(hip, torso, head=None, *, shoulders=(0, 1, 0), hips=None, arm_l, forearm_l, arm_r=None, forearm_r=None,
              thigh_l, shin_l, thigh_r=None, shin_r=None) -> np.ndarray:
    """A pose from directions of any length; a missing right limb mirrors the left one."""
    def mirror(v):
        return (v[0], -v[1], v[2])

    rows = [hip, torso, shoulders, hips or shoulders, head or torso, arm_l, forearm_l, arm_r or mirror(arm_l),
            forearm_r or mirror(forearm_l), thigh_l, shin_l, thigh_r or mirror(thigh_l), shin_r or mirror(shin_l)]
    pose = np.array(rows, dtype=float)
    pose[1:] /= np.linalg.norm(pose[1:], axis=1, keepdims=True)
    return pose


def standing(rng: np.random.Generator) -> np.ndarray:
    folded = rng.random() < 0.25
    forearm = (1, -0.9, 0.1) if folded else (rng.uniform(0.05, 0.5), rng.uniform(-0.3, 0.1), -1)
    feet = rng.uniform(0.03, 0.12)
    return make_pose((0, 0, 0.90), (rng.uniform(0, 0.08), 0, 1), (rng.uniform(0.1, 0.5), 0, 1),
                     arm_l=(0.05, rng.uniform(0.1, 0.25), -1), forearm_l=forearm, thigh_l=(0.03, feet, -1),
                     shin_l=(-0.03, feet / 2, -1))


def sitting(rng: np.random.Generator) -> np.ndarray:
    return make_pose((0, 0, 0.09), (rng.uniform(-0.3, 0.2), rng.normal(0, 0.05), 1), (rng.uniform(0, 0.5), 0, 1),
                     arm_l=(rng.uniform(0.1, 0.5), 0.25, -1), forearm_l=(1, rng.uniform(-0.7, 0.1), -0.2),
                     thigh_l=(1, rng.uniform(0.1, 0.3), -0.03), shin_l=(rng.uniform(-0.1, 0.3), 0, -1))


def lying(rng: np.random.Generator) -> np.ndarray:
    """On the back, the side or the front; the head points to -x."""
    side = 1 if rng.random() < 0.5 else -1
    if rng.random() < 0.5:
        bend_l, bend_r = rng.uniform(0, 0.5, 2) * (rng.random(2) < 0.6)
        out_l, out_r = rng.uniform(0.12, 1.0, 2)
        return make_pose((0, 0, 0.11), (-1, rng.normal(0, 0.08), 0), (-1, rng.normal(0, 0.2), 0.1),
                         arm_l=(np.cos(out_l), np.sin(out_l), 0), forearm_l=(rng.uniform(-0.6, 1), rng.uniform(-0.5, 0.6), 0.1),
                         arm_r=(np.cos(out_r), -np.sin(out_r), 0), forearm_r=(rng.uniform(-0.6, 1), rng.uniform(-0.6, 0.5), 0.1),
                         thigh_l=(1, 0.12 + bend_l, 0.8 * bend_l), shin_l=(1, 0.05 - bend_l, -0.8 * bend_l),
                         thigh_r=(1, -0.12 - bend_r, 0.8 * bend_r), shin_r=(1, -0.05 + bend_r, -0.8 * bend_r))
    curl = rng.uniform(0.15, 1.9)  # to the knees at the chest
    spread = rng.uniform(-0.25, 0.25)
    thigh = (np.cos(curl), side * np.sin(curl), 0.02)
    return make_pose((0, 0, 0.13), (-1, side * 0.3 * curl, 0.02), (-1, side * rng.uniform(0, 0.5) * (1 + curl), 0.05),
                     shoulders=(0.05, 0.35, -side), hips=(0.05, 0.3, -side),
                     arm_l=(0.3, side * rng.uniform(0.4, 1.2), -0.1), forearm_l=(-0.6, side * rng.uniform(-0.2, 0.8), 0.05),
                     arm_r=(0.6, side * rng.uniform(0.1, 1.0), 0.05), forearm_r=(rng.uniform(-0.5, 0.8), side * 0.6, 0),
                     thigh_l=thigh, shin_l=(np.cos(curl * 0.9), -side * np.sin(curl * 0.9) * rng.uniform(0.3, 1.1), 0),
                     thigh_r=(thigh[0], thigh[1] + spread, 0.02), shin_r=(1, -side * np.sin(curl) * 0.8 + spread, 0))


def propped(rng: np.random.Generator) -> np.ndarray:
    """Fallen and half up again: seat on the floor, trunk propped on the arms behind it; the head points to -x."""
    pose = lying(rng)
    pose[TORSO] = (-1, pose[TORSO, 1], rng.uniform(0.3, 1.3))
    pose[HEAD] = (-0.6, rng.normal(0, 0.2), 1)
    pose[ARM_L], pose[ARM_R] = (-0.5, 0.4, -1), (-0.5, -0.4, -1)
    pose[FOREARM_L] = pose[FOREARM_R] = (-0.2, 0, -1)
    pose[[HIPS, SHOULDERS]] = (0, 1, 0)
    pose[1:] /= np.linalg.norm(pose[1:], axis=1, keepdims=True)
    return pose


def leaning(rng: np.random.Generator) -> np.ndarray:
    """Weight on an outstretched arm: against a wall or a table, ahead or to one side."""
    side = 1 if rng.random() < 0.5 else -1
    tilt = rng.uniform(0.35, 0.6)
    if rng.random() < 0.6:
        return make_pose((-0.12, 0, 0.86), (tilt, side * 0.1, 1), (tilt + 0.2, 0, 1), arm_l=(1, 0.25, -0.25),
                         forearm_l=(1, 0.1, 0.0), thigh_l=(-0.15, 0.1, -1), shin_l=(-0.35, 0.05, -1))
    near = {"arm_l": (0.1, 1, -0.35), "forearm_l": (0.1, 1, -0.1), "arm_r": (0.1, -0.2, -1), "forearm_r": (0.4, 0, -1)}
    far = {"arm_r": (0.1, -1, -0.35), "forearm_r": (0.1, -1, -0.1), "arm_l": (0.1, 0.2, -1), "forearm_l": (0.4, 0, -1)}
    return make_pose((0, -side * 0.1, 0.87), (0.05, side * tilt, 1), (0.2, side * tilt, 1), **(near if side > 0 else far),
                     thigh_l=(0, -side * 0.1 + 0.08, -1), shin_l=(0, -side * 0.2, -1),
                     thigh_r=(0, -side * 0.1 - 0.08, -1), shin_r=(0, -side * 0.2, -1))


def kneeling(rng: np.random.Generator) -> np.ndarray:
    forward = rng.uniform(0.05, 0.5)
    arms = {"arm_l": (forward + 0.3, 0.25, -1), "forearm_l": (rng.uniform(0.4, 1.2), rng.uniform(-0.3, 0.2), -0.5)}
    if rng.random() < 0.5:
        return make_pose((0, 0, 0.49), (forward, 0, 1), (forward + 0.3, 0, 1), **arms, thigh_l=(0.08, 0.12, -1),
                         shin_l=(-1, 0.02, -0.05))
    return make_pose((-0.15, 0, 0.25), (forward, 0, 1), (forward + 0.3, 0, 1), **arms, thigh_l=(1, 0.2, -0.35),
                     shin_l=(-1, 0.05, -0.05))


def bending(rng: np.random.Generator) -> np.ndarray:
    down = rng.uniform(-0.35, 0.35)
    reach = rng.uniform(0.0, 0.7)
    return make_pose((-0.15, 0, 0.85), (1, rng.normal(0, 0.1), down), (1, 0, down - 0.3), arm_l=(reach, 0.15, -1),
                     forearm_l=(reach, 0.0, -1), thigh_l=(0.1, 0.1, -1), shin_l=(-0.1, 0.05, -1))


def crouching(rng: np.random.Generator) -> np.ndarray:
    return make_pose((-0.05, 0, 0.27), (rng.uniform(0.3, 0.8), 0, 1), (0.8, 0, 0.9), arm_l=(0.9, 0.3, -0.5),
                     forearm_l=(0.6, rng.uniform(-0.7, 0), -0.5), thigh_l=(0.9, rng.uniform(0.2, 0.5), 0.35),
                     shin_l=(-0.35, 0.0, -1))


def on_all_fours(rng: np.random.Generator) -> np.ndarray:
    return make_pose((-0.25, 0, 0.48), (1, 0, rng.uniform(-0.1, 0.15)), (1, 0, rng.uniform(-0.4, 0.2)), arm_l=(0.1, 0.1, -1),
                     forearm_l=(0.05, 0, -1), thigh_l=(0.0, 0.15, -1), shin_l=(-1, 0.05, -0.05))


def sitting_on_floor(rng: np.random.Generator) -> np.ndarray:
    bent = rng.uniform(0, 0.9)
    return make_pose((0, 0, 0.11), (rng.uniform(-0.5, 0.1), 0, 1), (rng.uniform(-0.1, 0.4), 0, 1), arm_l=(-0.4, 0.4, -1),
                     forearm_l=(rng.uniform(-0.3, 0.8), 0.1, -0.6), thigh_l=(1, 0.25, bent), shin_l=(1, 0.0, -bent))


def arms_up(rng: np.random.Generator) -> np.ndarray:
    pose = standing(rng)
    pose[ARM_L], pose[ARM_R] = (0, 0.95, 0.3), (0, -0.95, 0.3)
    pose[FOREARM_L], pose[FOREARM_R] = (0.0, 0.6, 0.8), (0.0, -0.6, 0.8)
    return pose


def arms_wide(rng: np.random.Generator) -> np.ndarray:
    pose = standing(rng)
    pose[ARM_L], pose[ARM_R] = (0.2, 0.95, -0.15), (0.2, -0.95, -0.15)
    pose[FOREARM_L], pose[FOREARM_R] = (0.3, 0.95, 0.0), (0.3, -0.95, 0.0)
    pose[THIGH_L, 1], pose[THIGH_R, 1] = 0.3, -0.3
    return pose


def collapsing(rng: np.random.Generator) -> np.ndarray:
    """Half way to the floor: knees give way, one arm reaches out."""
    side = 1 if rng.random() < 0.5 else -1
    return make_pose((rng.uniform(-0.1, 0.1), side * 0.1, rng.uniform(0.35, 0.5)),
                     (rng.uniform(-0.6, 0.8), side * 0.4, 0.8), arm_l=(0.5, 0.9, -0.2), forearm_l=(0.5, 0.6, -0.5),
                     thigh_l=(0.8, 0.3, -0.5), shin_l=(-0.6, 0.1, -0.9), thigh_r=(0.6, -0.3, -0.6))


def add_gait(poses: np.ndarray, phase: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Swings legs and arms [n, 13, 3] by the walked phase (radians)."""
    swing = amplitude * np.sin(phase)
    lift = amplitude * np.clip(np.cos(phase), 0, 1)
    drop = amplitude * np.clip(-np.cos(phase), 0, 1)
    poses[:, THIGH_L, 0] += 0.45 * swing
    poses[:, THIGH_R, 0] -= 0.45 * swing
    poses[:, SHIN_L, 0] += 0.35 * swing - 0.5 * lift
    poses[:, SHIN_R, 0] -= 0.35 * swing + 0.5 * drop
    for arm, forearm, sign in ((ARM_L, FOREARM_L, -1), (ARM_R, FOREARM_R, 1)):
        poses[:, arm, 0] += sign * 0.4 * swing
        poses[:, forearm, 0] += sign * 0.5 * swing
    return poses


def joints(poses: np.ndarray, stature: float) -> np.ndarray:
    """Poses [n, 13, 3] with directions of about unit length -> joints [n, 15, 3] in metres.

    Order: hip centre, neck, head, then shoulder, elbow, hand (left, right), hip, knee, ankle (left, right).
    """
    direction = poses / np.maximum(np.linalg.norm(poses, axis=2, keepdims=True), 1e-6) * stature
    hip = poses[:, HIP]
    neck = hip + TORSO_M * direction[:, TORSO]
    out = [hip, neck, neck + HEAD_M * direction[:, HEAD]]
    for sign, arm, forearm in ((1, ARM_L, FOREARM_L), (-1, ARM_R, FOREARM_R)):
        shoulder = neck + sign * SHOULDER_M * direction[:, SHOULDERS] - 0.04 * direction[:, TORSO]
        elbow = shoulder + ARM_M * direction[:, arm]
        out += [shoulder, elbow, elbow + FOREARM_M * direction[:, forearm]]
    for sign, thigh, shin in ((1, THIGH_L, SHIN_L), (-1, THIGH_R, SHIN_R)):
        side = hip + sign * HIP_M * direction[:, HIPS]
        knee = side + THIGH_M * direction[:, thigh]
        out += [side, knee, knee + SHIN_M * direction[:, shin]]
    return np.stack(out, axis=1)


@dataclass(frozen=True)
class Figure:
    """How one person looks: stature (1 = 1.72 m), girth, warmth of the capsules' ends above the room (C), folds of clothes.

    folds [FOLDS_PX, FOLDS_PX] multiplies the warmth pixel by pixel, anchored at the hip.
    """

    stature: float
    girth: float
    warmth: np.ndarray
    folds: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Figure":
        clothing = rng.uniform(0.86, 1.08)
        warmth = np.array(WARMTH_C) * clothing * rng.uniform(0.82, 1.18, (len(WARMTH_C), 2))
        # hair or a bald head
        warmth[3] = rng.uniform(6.4, 8.6)
        return cls(rng.uniform(0.90, 1.07), rng.uniform(0.90, 1.14), warmth.astype(np.float32),
                   rng.normal(1, FOLDS_STD, (FOLDS_PX, FOLDS_PX)).astype(np.float32))


@dataclass(frozen=True)
class Track:
    """Key poses of one person in time, between which `at` interpolates. Arrays over k keys."""

    times: np.ndarray
    place: np.ndarray  # (k, 2) m
    heading: np.ndarray  # (k,) rad, not wrapped
    walked: np.ndarray  # (k,) m
    gait: np.ndarray  # (k,) 0 or 1
    blanket: np.ndarray  # (k,) 0 to 1
    support: np.ndarray  # (k,) m, height of what the hip rests on
    poses: np.ndarray  # (k, 13, 3)

    def at(self, times: np.ndarray, stature: float) -> tuple[np.ndarray, np.ndarray]:
        """Joints [n, 15, 3] in the room (m) and the blanket's cover [n] at `times` (s)."""
        right = np.clip(np.searchsorted(self.times, times, side="right"), 1, len(self.times) - 1)
        left = right - 1
        span = np.maximum(self.times[right] - self.times[left], 1e-6)
        linear = np.clip((times - self.times[left]) / span, 0, 1)
        eased = smoothstep(linear)
        steady = np.minimum(self.gait[left], self.gait[right]) > 0.5

        def mix(values, weight):
            weight = weight.reshape(-1, *([1] * (values.ndim - 1)))
            return values[left] + weight * (values[right] - values[left])

        poses = mix(self.poses, eased)
        # stride 1.3 m: a full swing of both legs
        poses = add_gait(poses, mix(self.walked, linear) * (2 * np.pi / 1.3), mix(self.gait, eased))
        body = joints(poses, stature)
        body[..., 2] += ((stature - 1) * poses[:, HIP, 2] + mix(self.support, eased))[:, None]
        heading = mix(self.heading, eased)
        cos, sin = np.cos(heading)[:, None], np.sin(heading)[:, None]
        place = mix(self.place, np.where(steady, linear, eased))
        x = body[..., 0] * cos - body[..., 1] * sin + place[:, :1]
        y = body[..., 0] * sin + body[..., 1] * cos + place[:, 1:]
        return np.stack([x, y, body[..., 2]], axis=-1), mix(self.blanket, eased)


@dataclass(frozen=True)
class Patches:
    """One person in n frames: square patches of `size` px whose corners lie at (row, col) of the frame, possibly outside.

    alpha [n, size, size] is the blurred silhouette, warmth [n, size, size] alpha times its temperature above the room (C).
    """

    row: np.ndarray
    col: np.ndarray
    alpha: np.ndarray
    warmth: np.ndarray
    top_m: np.ndarray


def draw_person(camera: Camera, figure: Figure, body: np.ndarray, blanket: np.ndarray) -> Patches:
    """Joints [n, 15, 3] m and the blanket's cover [n] -> patches. A pose that lasts is drawn once."""
    changed = np.any(np.abs(np.diff(body, axis=0)) > 1e-6, axis=(1, 2)) | (np.diff(blanket) != 0)
    first = np.concatenate([[True], changed])
    body, blanket, drawing = body[first], blanket[first], np.cumsum(first) - 1
    columns, rows, per_metre = (values.astype(np.float32) for values in camera.project(body))
    reach = WIDEST_M * figure.girth * per_metre.max() + 2.5 * PSF_SIGMA_PX
    row = np.floor(rows.min(axis=1) - reach).astype(np.int64)
    col = np.floor(columns.min(axis=1) - reach).astype(np.int64)
    size = int(np.ceil(max((rows.max(axis=1) - row).max(), (columns.max(axis=1) - col).max()) + reach)) + 1
    x, y = columns - col[:, None], rows - row[:, None]
    alpha, warmth = np.empty((2, len(body), size, size), dtype=np.float32)
    # few at a time: the arrays over all capsules then stay in the processor's cache
    for start in range(0, len(body), DRAWN_AT_ONCE):
        part = slice(start, start + DRAWN_AT_ONCE)
        drawn = draw_capsules(figure, x[part], y[part], per_metre[part], body[part, :, 2], blanket[part], size)
        alpha[part], warmth[part] = drawn
    hip_row, hip_col = np.rint(rows[:, 0]).astype(np.int64), np.rint(columns[:, 0]).astype(np.int64)
    fold_rows = ((row - hip_row)[:, None] + np.arange(size)) % FOLDS_PX
    fold_cols = ((col - hip_col)[:, None] + np.arange(size)) % FOLDS_PX
    warmth *= figure.folds[fold_rows[:, :, None], fold_cols[:, None, :]]
    return Patches(row[drawing], col[drawing], alpha[drawing], warmth[drawing], body[drawing, :, 2].max(axis=1))


def draw_capsules(figure: Figure, x: np.ndarray, y: np.ndarray, per_metre: np.ndarray, height: np.ndarray, blanket: np.ndarray,
                  size: int) -> tuple[np.ndarray, np.ndarray]:
    """Joints at x, y [n, 15] px, px per metre and height in m [n, 15] -> silhouette and warmth [n, size, size].

    Capsules nearer to the camera cover those below.
    """
    n, (a, b) = len(x), ENDS
    thickness = np.array([capsule[2:] for capsule in CAPSULES], dtype=np.float32) * figure.girth * figure.stature
    bx, by = x[:, b] - x[:, a], y[:, b] - y[:, a]
    radius_a = per_metre[:, a] * thickness[:, 0]
    radius_b = per_metre[:, b] * thickness[:, 1]
    grid = np.arange(size, dtype=np.float32)
    dx, dy = grid - x[:, a, None], grid - y[:, a, None]  # (n, capsules, size)
    length2 = np.maximum(bx**2 + by**2, 1e-4)
    along = (dx * (bx / length2)[..., None])[:, :, None, :] + (dy * (by / length2)[..., None])[:, :, :, None]
    np.clip(along, 0, 1, out=along)  # 0 at the first end, 1 at the second; (n, capsules, size, size)
    distance = (dx[:, :, None, :] - along * bx[..., None, None]) ** 2
    distance += (dy[:, :, :, None] - along * by[..., None, None]) ** 2
    np.sqrt(distance, out=distance)
    # a strip of half width r blurred by a Gaussian: Phi((d + r) / s) - Phi((d - r) / s), with Phi(x) ~ (1 + tanh(0.8 x)) / 2
    sharpness = np.float32(0.8 / PSF_SIGMA_PX)
    distance *= sharpness
    radius = along * ((radius_b - radius_a) * sharpness)[..., None, None]
    radius += (radius_a * sharpness)[..., None, None]
    cover = np.tanh(distance + radius)
    distance -= radius
    cover -= np.tanh(distance, out=distance)
    cover *= 0.5
    hidden = 1 - 0.6 * blanket[:, None].astype(np.float32) * COVERED_BY_BLANKET
    warm_a, warm_b = figure.warmth[:, 0] * hidden, figure.warmth[:, 1] * hidden
    along *= (warm_b - warm_a)[..., None, None]
    along += warm_a[..., None, None]
    order = np.argsort(height[:, a] + height[:, b], axis=1)
    frames = np.arange(n)
    alpha, warmth = np.zeros((2, n, size, size), dtype=np.float32)
    for rank in range(len(CAPSULES)):
        part = cover[frames, order[:, rank]]
        warmth += part * (along[frames, order[:, rank]] - warmth)
        alpha += part * (1 - alpha)
    return alpha, warmth
