"""Simulated recordings: people in furnished rooms under a ceiling sensor, in the same files that the real device gives.

`script.py` decides what people do, `body.py` how that looks in 3-D, `room.py` what is around them, `camera.py` what the
sensor makes of it, and `take.py` renders a session and annotates it. Here a session is cut into recordings.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from thermal_action import InputError
from thermal_action.keyframes import Keyframe
from thermal_action.raw import PayloadFormat, Progress, RawFrame, encoder
from thermal_action.raw_store import RawRecording, RawStore
from thermal_action.sources.simulator.actions import ACTIONS, NIGHT_SHARES
from thermal_action.sources.simulator.camera import ZERO_C_IN_DK, Camera
from thermal_action.sources.simulator.take import Annotator, Block, Take

# Monday 2026-01-05, 07:00 UTC: when the first device starts. A fixed date: nothing of a fetch depends on the clock.
FIRST_SESSION_MS = 1_767_596_400_000
HOUR_MS = 3_600_000
CAMERA_HEIGHT_M = (2.65, 3.05)
# of the sessions these have a bad link, and all the lost packets
BAD_LINK_SHARE = 0.4
# multiples of these modulo 1 spread evenly over rooms and sessions, however many there are
ROOM_STRIDE, SESSION_STRIDE = 0.754878, 0.569840
ANIMAL_OFFSET, ANIMAL_STRIDE = 0.25, 0.618034
NIGHT_OFFSET, NIGHT_STRIDES = 0.2, (0.414214, 0.302776)
VERSION = 2
"""Raised whenever the simulator gives other bytes for the same parameters."""


@dataclass
class Cut:
    """One recording being cut from the take."""

    number: int
    recording_id: str
    raw: RawRecording
    annotator: Annotator
    rng: np.random.Generator
    start_ms: int
    end_ms: int
    keyframes: list[Keyframe] = field(default_factory=list)
    last_keyframe: int = -1
    next_ms: float = 0.0
    open: bool = False
    timeline: dict[int, list[list]] = field(default_factory=dict)


class SimulatorSource:
    """Simulated devices, each with its room, sessions and recordings.

    seed: any whole number; decides every byte together with the rest.
    rooms: devices, each with its own room, furniture, lens and MAC address (1 to 1000).
    sessions: takes of each device, hours to days apart (1 to 1000).
    recordings: neighbouring recordings cut from each session; they share frames through the buffer (1 to 1000).
    seconds: annotated length of a recording (5 to 86400).
    rows, cols: pixels of the sensor (8 to 256); the field of view stays that of a 40 x 60 one, 110 x 74 degrees.
    fps: frames a second (1 to 30); the measured device has 6.
    keyframe_interval_s: mean time between keyframes (0.2 to 60); they are jittered, and always on a whole frame.
    people: most people in a room at once, one resident and carers (1 to 4).
    visits: share of the time that each carer is in the room (0 to 0.95).
    nights: share of the sessions in which the resident is in bed most of the time (0 to 1).
    animals: share of the rooms that have a cat or dog (0 to 1).
    packet_loss: mean share of frames that arrive cut (0 to 0.35); two in five sessions have a bad link and carry all of it.
    payload: dtype of `frame_data`, int16 deci-Kelvin or float32 C, in base64 of a zlib stream.
    class_weights: action -> wanted share of the person boxes (0 and up, any scale); actions not named keep their default, that
        of a day or of a night; 0 takes one out as a goal; it may still be a step to another (one walks to a chair, and lies
        after a fall).
    balance: how much of the difference between the shares of a day is taken back, 0 none, 1 all (share ** (1 - balance)); 0
        stays 0.
    classes: the actions that are scripted and annotated, some of the 14 named ones.
    buffer_frames: frames before the first and after the last keyframe of a recording.
    """

    def __init__(self, *, seed: int, rooms: int, sessions: int, recordings: int, seconds: float, rows: int, cols: int, fps: float,
                 keyframe_interval_s: float, people: int, visits: float, nights: float, animals: float, packet_loss: float,
                 payload: str, class_weights: dict[str, float], balance: float, classes: Sequence[str], buffer_frames: int):
        unknown = [name for name in [*classes, *class_weights] if name not in ACTIONS]
        if unknown:
            raise InputError(f"the simulator does not know the action {unknown[0]!r}: use some of {', '.join(ACTIONS)}")
        weights = {name: float(class_weights.get(name, ACTIONS[name][0])) for name in classes}
        if not sum(weights.values()) > 0 or min(weights.values()) < 0:
            raise InputError(f"fetch.simulator.class_weights give {weights}: weights must be 0 or more, and one above 0")
        self.weights = {name: weight and weight ** (1 - balance) for name, weight in weights.items()}
        self.night_weights = {name: float(class_weights.get(name, NIGHT_SHARES[name])) for name in classes}
        self.seed, self.rooms, self.sessions, self.recordings, self.seconds = seed, rooms, sessions, recordings, float(seconds)
        self.rows, self.cols, self.fps, self.keyframe_interval_s = rows, cols, float(fps), float(keyframe_interval_s)
        self.people, self.visits, self.nights, self.animals = people, float(visits), float(nights), float(animals)
        self.packet_loss = float(packet_loss)
        self.payload = PayloadFormat("base64", "zlib", payload)
        self.classes, self.buffer_frames = list(classes), buffer_frames

    def query(self) -> dict:
        return {"simulator": VERSION, "seed": self.seed, "rooms": self.rooms, "sessions": self.sessions,
                "recordings": self.recordings, "seconds": self.seconds, "rows": self.rows, "cols": self.cols, "fps": self.fps,
                "keyframe_interval_s": self.keyframe_interval_s, "people": self.people, "visits": self.visits,
                "nights": self.nights, "animals": self.animals, "packet_loss": self.packet_loss,
                "payload": self.payload.dtype, "weights": self.weights, "night_weights": self.night_weights,
                "classes": self.classes, "buffer_frames": self.buffer_frames}

    def fetch(self, store: RawStore, progress: Progress) -> None:
        """Renders every recording that the store does not hold yet; `progress(n)` after n more frames."""
        # a device and its sessions are the same however many others there are
        question = {key: value for key, value in self.query().items() if key not in ("rooms", "sessions")} | encoder()
        for room in range(self.rooms):
            for session in range(self.sessions):
                cuts = self.missing_cuts(store, question, room, session, progress)
                if cuts:
                    self.cut_session(store, room, session, cuts, progress)

    def mac_address(self, room: int) -> str:
        """A locally administered address of its own for every seed and room."""
        digits = np.random.default_rng([self.seed, room, 99]).integers(0, 256, 5)
        return ":".join(f"{value:02x}" for value in (0x02, *digits))

    def recording_id(self, room: int, session: int, recording: int) -> str:
        return f"room{room + 1:02d}_S{session + 1}_R{recording + 1}"

    def start_ms(self, room: int, session: int) -> int:
        """UTC of a session's first frame; sessions of one device lie 5 to 60 hours apart, longer when they last longer."""
        lasts = self.recordings * self.seconds * 1000 + 2 * self.buffer_frames * 1000 / self.fps
        gaps = np.random.default_rng([self.seed, room, 98]).uniform(5, 60, self.sessions) * HOUR_MS
        return int(FIRST_SESSION_MS + 137_003 * room + gaps[0] / 10 + np.sum(gaps[1 : session + 1]) + session * lasts)

    def open_take(self, room: int, session: int) -> Take:
        device = np.random.default_rng([self.seed, room, 97])
        camera = Camera(self.rows, self.cols, float(device.uniform(*CAMERA_HEIGHT_M)))
        # spread instead of drawn, so that few sessions have their share too
        place = ROOM_STRIDE * room + SESSION_STRIDE * session
        bad = (0.5 + place) % 1 < BAD_LINK_SHARE
        loss = self.packet_loss / BAD_LINK_SHARE * np.random.default_rng([self.seed, room, session, 96]).uniform(0.8, 1.2)
        night = (NIGHT_OFFSET + NIGHT_STRIDES[0] * room + NIGHT_STRIDES[1] * session) % 1 < self.nights
        animals = int((ANIMAL_OFFSET + ANIMAL_STRIDE * room) % 1 < self.animals)
        return Take(camera=camera, device_seed=[self.seed, room], seed=[self.seed, room, session], labels=self.classes,
                    weights=self.night_weights if night else self.weights, luck=self.seed * 0.37 + place, people=self.people,
                    presence=self.visits, animals=animals, fps=self.fps, loss=min(loss, 0.9) if bad else 0.0,
                    bad_link=bad and self.packet_loss > 0)

    def missing_cuts(self, store: RawStore, question: dict, room: int, session: int, progress: Progress) -> list[Cut]:
        cuts, take = [], None
        # the first keyframe has its buffer before it
        lead = (self.buffer_frames + 8) * 1000 / self.fps
        for number in range(self.recordings):
            recording_id = self.recording_id(room, session, number)
            raw = store.recording(recording_id, question)
            progress(raw.frames)
            if raw.complete:
                continue
            take = take or self.open_take(room, session)
            rng = np.random.default_rng([self.seed, room, session, 4, number])
            start = lead + number * self.seconds * 1000
            cuts.append(Cut(number, recording_id, raw, Annotator(take, rng), rng, int(start), int(start + self.seconds * 1000)))
        return cuts

    def cut_session(self, store: RawStore, room: int, session: int, cuts: list[Cut], progress: Progress) -> None:
        """Runs through the take once; recordings open and close while it goes on."""
        take, mac, origin = cuts[0].annotator.take, self.mac_address(room), self.start_ms(room, session)
        waiting, running = deque(cuts), []
        past: deque[tuple[Block, int]] = deque(maxlen=self.buffer_frames + 1)
        number = -1
        for block in take.blocks():
            for frame in range(len(block.arrivals.captured_s)):
                number += 1
                past.append((block, frame))
                stamp = int(block.arrivals.stamped_ms[frame])
                while waiting and stamp >= waiting[0].start_ms:
                    running.append(waiting.popleft())
                for cut in list(running):
                    self.step(cut, past, stamp, number, mac, origin, progress)
                    if stamp >= cut.end_ms and number >= cut.last_keyframe + self.buffer_frames:
                        self.close(store, cut, take)
                        running.remove(cut)
            if not waiting and not running:
                return

    def step(self, cut: Cut, past: deque, stamp: int, number: int, mac: str, origin: int, progress: Progress) -> None:
        """One frame of a running recording: maybe a keyframe, and then on to the pages."""
        block, frame = past[-1]
        if cut.start_ms <= stamp < cut.end_ms and stamp >= cut.next_ms:
            keyframe = self.annotate(cut, block, frame, mac, origin)
            if keyframe:
                cut.keyframes.append(keyframe)
                cut.last_keyframe = number
                wait = max(self.keyframe_interval_s - 0.5 / self.fps, 0.0)
                cut.next_ms = stamp + 1000 * wait * cut.rng.uniform(0.95, 1.05)
        if not cut.keyframes:
            return
        for held, index in ([past[-1]] if cut.open else past):
            self.append(cut, held, index, origin, progress)
        cut.open = True

    def annotate(self, cut: Cut, block: Block, frame: int, mac: str, origin: int) -> Keyframe | None:
        """None when the frame came cut, nobody is seen, or somebody does what was not asked for."""
        if not block.arrivals.arrived[frame].all():
            return None
        seen = block.take.people_in(block, frame)
        if not seen or any(person.label is None for person in seen):
            return None
        time = origin + int(block.arrivals.stamped_ms[frame])
        annotated = time + 20 * 24 * HOUR_MS + 9000 * len(cut.keyframes)
        return Keyframe(cut.recording_id, mac, "simulator", annotated, time, cut.annotator.annotate(block, frame, seen))

    def append(self, cut: Cut, block: Block, frame: int, origin: int, progress: Progress) -> None:
        stamp = origin + int(block.arrivals.stamped_ms[frame])
        for index, role in enumerate(block.cast):
            note_segment(cut.timeline.setdefault(index, []), role.labels[frame], stamp)
        if cut.raw.last_ts is not None and stamp <= cut.raw.last_ts:
            return
        celsius = block.rendered[0][frame].astype(np.float64) / 10 - ZERO_C_IN_DK / 10
        cut.raw.append(RawFrame(stamp, int(block.arrivals.sequence[frame]), self.cols, self.rows, self.payload.encode(celsius)))
        progress(1)

    def close(self, store: RawStore, cut: Cut, take: Take) -> None:
        if not cut.keyframes:
            raise InputError(f"the simulator shows none of {', '.join(self.classes)} in {cut.recording_id}: make "
                             "fetch.simulator.seconds longer or add actions to classes")
        persons = [{"object_id": index, "segments": [{"start_ms": start, "end_ms": end, "label": label}
                                                     for start, end, label in segments if label]}
                   for index, segments in sorted(cut.timeline.items())]
        store.put_keyframes(cut.recording_id, cut.keyframes)
        store.put_json(f"timeline/{cut.recording_id}.json", {"recording": cut.recording_id, "persons": persons})
        cut.raw.finish(self.payload)


def note_segment(segments: list[list], label: str | None, stamp: int) -> None:
    """Lengthens the last (start, end, label) or begins another; a segment ends at the stamp where the next begins."""
    if segments:
        segments[-1][1] = stamp
    if not segments or segments[-1][2] != label:
        segments.append([stamp, stamp + 1, label])
