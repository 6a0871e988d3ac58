"""Films of a recording with a time line of what happened in it when."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from thermal_action.overlay import DARK, GREY, ROW_PX, SPAN_S, WHITE, action_colours, enlarge
from thermal_action.streams import Frame

# seconds before and after now that the time line shows of what was said while the recording went on; how long what was just said
# has a white edge
PAST_S, COMING_S, NEW_S = 57.0, 3.0, 2.0
TICKS_S = (-45, -30, -15, 0, 15)
NAME_PX = 208  # left of the time line
# of its colour that the least certain segment has
DIMMEST = 0.3


class Spell(NamedTuple):
    """An action from `start` to `end`, which is shown from `known` on (ms; None: always); label id, certainty from 0 to 1."""

    start: int
    end: int
    label: int
    score: float
    known: int | None


def draw_spells(frames: Iterable[Frame], spells: Sequence[Spell], names: Sequence[str]) -> Iterator[Image.Image]:
    """The film's pictures, one for each frame; under it a row for each action that the recording has."""
    colours, font = action_colours(len(names)), ImageFont.load_default(12)
    rows = sorted({spell.label for spell in spells})
    causal = any(spell.known is not None for spell in spells)
    for frame, picture, (width, height) in enlarge(frames, lambda _: (len(rows) + 1) * ROW_PX + 8):
        shown = [spell for spell in spells if spell.known is None or spell.known <= frame.time]
        draw_rows(ImageDraw.Draw(picture), frame.time, shown, (-PAST_S, COMING_S) if causal else (-SPAN_S, SPAN_S), width,
                  height + 4, [(label, names[label], colours[label]) for label in rows], font)
        yield picture


def draw_rows(draw: ImageDraw.ImageDraw, now: int, spells: Sequence[Spell], span: tuple[float, float], width: int, top: int,
              rows: Sequence[tuple[int, str, tuple[int, int, int]]], font: ImageFont.ImageFont) -> None:
    """A row for each (label, name, colour), `span` seconds around now; the more certain a spell the brighter, the surest on top.

    Names of what goes on now, or was just said, are white.
    """
    def place(time: float) -> float:
        share = ((time - now) / 1000 - span[0]) / (span[1] - span[0])
        return NAME_PX + min(max(share, 0), 1) * (width - NAME_PX)

    bottom = top + len(rows) * ROW_PX
    for row, (label, name, colour) in enumerate(rows):
        y, bright = top + row * ROW_PX, False
        for spell in sorted((spell for spell in spells if spell.label == label and spell.end > now + 1000 * span[0]
                             and spell.start < now + 1000 * span[1]), key=lambda spell: spell.score):
            is_new = spell.known is not None and now - spell.known < 1000 * NEW_S
            bright |= is_new or spell.start <= now <= spell.end
            draw.rectangle((place(spell.start), y + 1, place(spell.end), y + ROW_PX - 2), outline=WHITE if is_new else DARK,
                           fill=tuple(round((DIMMEST + (1 - DIMMEST) * spell.score) * part) for part in colour))
        draw.text((4, y), name[:38], fill=WHITE if bright else GREY, font=font)
    draw.line((place(now), top, place(now), bottom), fill=WHITE)
    for second in TICKS_S:
        if span[0] < second < span[1]:
            draw.text((place(now + 1000 * second) - 12, bottom), f"{second:+} s" if second else "now", fill=GREY, font=font)
