"""When which actions happen in a recording, whoever does them: what a model of whole recordings learns and is scored on."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from thermal_action.records import Count, read_record, record


class Span(NamedTuple):
    """An action from `start` to `end`, in seconds from the recording's first frame."""

    start: float
    end: float
    label: str

    @property
    def seconds(self) -> float:
        return self.end - self.start


@record
class Did:
    start_ms: Count
    end_ms: Count
    label: str


@record
class PersonTimeline:
    segments: list[Did]


@record
class Timeline:
    """data/raw/timeline/<recording>.json: what the simulator made everybody do, and when."""

    persons: list[PersonTimeline]


def read_timeline(path: str | Path, first_ms: int, duration: float) -> list[Span]:
    """What everybody did in the `duration` seconds from `first_ms` on. InputError for a file that fetch did not write."""
    did = (segment for person in read_record(path, Timeline, "fetch").persons for segment in person.segments)
    spans = (Span(max((each.start_ms - first_ms) / 1000, 0.0), min((each.end_ms - first_ms) / 1000, duration), each.label)
             for each in did)
    return [span for span in spans if span.seconds > 0]


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """By start; spans of one label that touch or overlap become one, for in a picture's features two who walk at the same time
    cannot be told apart."""
    merged: dict[str, list[Span]] = {}
    for span in sorted(spans):
        own = merged.setdefault(span.label, [])
        if own and span.start <= own[-1].end:
            own[-1] = own[-1]._replace(end=max(own[-1].end, span.end))
        else:
            own.append(span)
    return sorted(span for own in merged.values() for span in own)


def cut_spans(spans: Iterable[Span], start: float, duration: float, min_share: float) -> Iterator[Span]:
    """The spans in a chunk of a recording, in seconds from its start on.

    One that an edge of the chunk cuts stays if it has at least `min_share` of itself inside, as ActionFormer's trunc_thresh asks,
    or fills as much of the chunk: an hour's sleep would be in no chunk otherwise.
    """
    for span in spans:
        inside = Span(max(span.start - start, 0.0), min(span.end - start, duration), span.label)
        if inside.seconds > 0 and inside.seconds >= min_share * min(span.seconds, duration):
            yield inside
