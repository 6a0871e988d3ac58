"""Films of a recording: the thermal picture with boxes, names and actions, and under it a time line of who did what."""

import colorsys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from thermal_action.files import replacing
from thermal_action.moments import Moment
from thermal_action.streams import Frame

# width of the picture, about; heights of a row of the time line and of the legend; width of a name in it
WIDTH_PX, ROW_PX, LEGEND_PX, LEGEND_WIDTH_PX = 720, 16, 16, 180
# C below and above the room's median that are black and white
BELOW_C, ABOVE_C = 3.0, 13.0
# seconds that the time line shows on each side of now, and persons that it has room for
SPAN_S, ROWS = 30.0, 4
DARK, GREY, WHITE = (16, 18, 22), (150, 155, 160), (255, 255, 255)
GIF_EVERY = 2  # frames


def action_colours(count: int) -> list[tuple[int, int, int]]:
    """Colours of the actions, as different as can be, of two brightnesses in turn."""
    return [tuple(round(255 * part) for part in colorsys.hsv_to_rgb(number / count, 0.75 if number % 2 else 0.45, 1.0))
            for number in range(count)]


def heat_map() -> np.ndarray:
    """uint8 [256, 3]."""
    from matplotlib import colormaps
    return (255 * colormaps["inferno"](np.arange(256))[:, :3]).round().astype(np.uint8)


def enlarge(frames: Iterable[Frame], below: Callable[[int], int]) -> Iterator[tuple[Frame, Image.Image, tuple[int, int]]]:
    """Each frame, a picture of it, and that picture's width and height, under which `below` (of the width) pixels are free."""
    heat, room = heat_map(), None
    for frame in frames:
        room = float(np.median(frame.picture)) if room is None else room
        rows, columns = frame.picture.shape
        scale = max(WIDTH_PX // columns, 1)
        size = width, height = columns * scale, rows * scale
        shade = np.clip((frame.picture - room + BELOW_C) / (BELOW_C + ABOVE_C) * 255, 0, 255).astype(np.uint8)
        picture = Image.new("RGB", (even(width), even(height + below(width))), DARK)
        picture.paste(Image.fromarray(heat[shade]).resize(size, Image.Resampling.BICUBIC), (0, 0))
        yield frame, picture, size


def draw_frames(frames: Iterable[Frame], moments: Sequence[Moment], classes: Sequence[str]) -> Iterator[Image.Image]:
    """The film's pictures, one for each frame; each shows the moment nearest to it."""
    colours, font = action_colours(len(classes)), ImageFont.load_default(12)
    times, line = np.array([moment.time for moment in moments]), (ROWS + 1) * ROW_PX + 8
    for frame, picture, (width, height) in enlarge(frames, lambda width: line + legend_px(width, len(classes))):
        draw = ImageDraw.Draw(picture)
        if len(moments):
            moment = moments[int(np.abs(times - frame.time).argmin())]
            draw_persons(draw, moment, classes, colours, (width, height), font)
            draw_time_line(draw, frame.time, moments, times, colours, height + 4, width, font)
        for number, name in enumerate(classes):
            row, column = divmod(number, legend_columns(width))
            x, y = column * LEGEND_WIDTH_PX + 4, height + line + row * LEGEND_PX
            draw.rectangle((x, y + 2, x + 10, y + 12), fill=colours[number])
            draw.text((x + 14, y), name[:27], fill=(200, 204, 210), font=font)
        yield picture


def legend_columns(width: int) -> int:
    return max(width // LEGEND_WIDTH_PX, 1)


def legend_px(width: int, count: int) -> int:
    """Height of the legend of `count` actions."""
    return -(-count // legend_columns(width)) * LEGEND_PX


def even(size: int) -> int:
    """Films want even sizes."""
    return size + size % 2


def draw_persons(draw: ImageDraw.ImageDraw, moment: Moment, classes: Sequence[str], colours: list, size: tuple[int, int],
                 font: ImageFont.ImageFont) -> None:
    if moment.abstained:
        draw.text((6, 4), f"nothing said: {moment.abstained}", fill=(255, 120, 120), font=font)
    for identity, person in zip(moment.identities, moment.persons, strict=True):
        action = person.action
        x1, y1, x2, y2 = np.array(person.box) * np.tile(size, 2)
        draw.rectangle((x1, y1, x2, y2), outline=colours[action], width=2)
        name = f"{identity}  {classes[action]} {person.probabilities[action]:.2f}"
        left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
        x = min(max(x1, 0), size[0] - (right - left) - 6)
        y = y1 - (bottom - top) - 8 if y1 > 24 else y2 + 2
        draw.rectangle((x, y, x + right - left + 6, y + bottom - top + 6), fill=DARK)
        draw.text((x + 3, y + 1), name, fill=colours[action], font=font)


def draw_time_line(draw: ImageDraw.ImageDraw, now: int, moments: Sequence[Moment], times: np.ndarray, colours: list, top: int,
                   width: int, font: ImageFont.ImageFont) -> None:
    """A row for each person near now, in the colours of what they did and will do; now is in the middle."""
    near = np.flatnonzero(np.abs(times - now) <= 1000 * SPAN_S)
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1000.0

    def place(time: float) -> float:
        return (0.5 + (time - now) / (2000 * SPAN_S)) * width

    rows: dict[int, int] = {}
    for number in near:
        for identity, person in zip(moments[number].identities, moments[number].persons, strict=True):
            if identity not in rows and len(rows) == ROWS:
                continue
            y = top + ROW_PX * rows.setdefault(identity, len(rows))
            draw.rectangle((place(times[number] - step / 2), y + 2, place(times[number] + step / 2), y + ROW_PX - 3),
                           fill=colours[person.action])
    for identity, row in rows.items():
        draw.text((4, top + ROW_PX * row), str(identity), fill=WHITE, font=font, stroke_width=1, stroke_fill=(0, 0, 0))
    draw.line((width / 2, top, width / 2, top + ROWS * ROW_PX), fill=WHITE)
    for seconds in (-SPAN_S / 2, SPAN_S / 2):
        draw.text((place(now + 1000 * seconds) - 12, top + ROWS * ROW_PX), f"{seconds:+.0f} s", fill=GREY, font=font)


def write_film(path: str | Path, pictures: Iterator[Image.Image], fps: float) -> None:
    """An .mp4 (H.264) or .gif of the pictures, at least one, `fps` a second."""
    path = Path(path)
    with replacing(path) as temporary:
        if path.suffix == ".gif":
            shown = (picture for number, picture in enumerate(pictures) if number % GIF_EVERY == 0)
            next(shown).save(temporary, format="GIF", save_all=True, append_images=shown, loop=0,
                             duration=round(1000 * GIF_EVERY / fps))
        else:
            write_mp4(temporary, pictures, fps)


def write_mp4(path: Path, pictures: Iterator[Image.Image], fps: float) -> None:
    import av

    first = next(pictures)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=max(round(fps), 1))
        stream.width, stream.height, stream.pix_fmt = *first.size, "yuv420p"
        stream.options = {"crf": "20", "threads": "1"}
        for picture in chain([first], pictures):
            for packet in stream.encode(av.VideoFrame.from_image(picture)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
