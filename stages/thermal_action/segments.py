"""When actions happen: runs of one person's same label, from keyframes."""

from collections import defaultdict
from collections.abc import Sequence

from thermal_action.keyframes import Keyframe


def find_segments(keyframes: Sequence[Keyframe], first_ms: int, last_ms: int, max_gap_s: float) -> list[dict]:
    """Runs of one person's same label in one recording: [{"segment": [start, end] s, "label", "object_id"}], by start.

    Seconds count from the recording's first frame. A run changes halfway between two keyframes; one that nothing follows
    within `max_gap_s` ends at its last keyframe.
    """
    tracks: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for keyframe in keyframes:
        for person in keyframe.persons:
            tracks[person.object_id].append((keyframe.data_time, person.subcategory))
    segments = []
    for object_id, track in tracks.items():
        start = max(track[0][0], first_ms)
        for (time, label), following in zip(track, [*track[1:], None], strict=True):
            broken = following is None or following[0] - time > max_gap_s * 1000
            if not broken and following[1] == label:
                continue
            end = min(time if broken else (time + following[0]) // 2, last_ms)
            segments.append({"segment": [(start - first_ms) / 1000, (end - first_ms) / 1000], "label": label,
                             "object_id": object_id})
            start = following[0] if broken and following else end
    return sorted(segments, key=lambda segment: (segment["segment"], segment["object_id"], segment["label"]))
