"""Scores and rows as they are written: for everything that has some, whatever it took to find them."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from thermal_action.files import replacing

Row = dict[str, str | int | float]


def present(scores: Mapping[str, float]) -> dict[str, float]:
    """Plain numbers with six decimals, without those that are undefined."""
    return {name: value if isinstance(value, int) else round(float(value), 6)
            for name, value in scores.items() if np.isfinite(value)}


def write_rows(path: Path, rows: Iterable[Row], columns: Sequence[str] = ()) -> list[Row]:
    """Writes rows as CSV, under `columns` or, of at least one row, the keys of the first; returns them all."""
    rows = list(rows)
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows
