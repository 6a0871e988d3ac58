"""What is plotted of an evaluation: tables for `dvc plots`, and the same as pictures."""

from pathlib import Path

import numpy as np

from thermal_action import charts
from thermal_action.files import replacing_folder
from thermal_action.scoring import tables
from thermal_action.scoring.classification import score_classification
from thermal_action.scoring.finding import Found
from thermal_action.scoring.rows import Row, write_rows
from thermal_action.scoring.tables import Persons


def write_plots(folder: Path, answer: np.ndarray, persons: Persons, summaries: dict[str, dict], found: dict[str, Found],
                metrics: dict, *, level: float, bins: int) -> list[Row]:
    """Writes <folder>/plots and <folder>/pictures; returns the rows of recall per class."""
    with replacing_folder(folder / "plots") as plots:
        write_rows(plots / "confusion.csv", tables.list_confusions(answer, persons))
        recalls = write_rows(plots / "per_class_recall.csv", tables.list_recalls(answer, persons, level))
        curves = write_rows(plots / "precision_recall.csv", tables.list_precision_recall(answer, persons))
        calibration = write_rows(plots / "calibration.csv", tables.list_calibration(answer, persons, bins))
        write_rows(plots / "scores.csv", tables.list_scores(summaries))
        if found:
            finding = write_rows(plots / "finding.csv", tables.list_finding(found, persons))
    focus = None if persons.focus is None else persons.classes[persons.focus]
    with replacing_folder(folder / "pictures") as pictures:
        charts.draw_confusion(pictures / "confusion.png", score_classification(answer, persons.labels).confusion, persons.classes)
        charts.draw_recalls(pictures / "per_class_recall.png", recalls, level, focus)
        charts.draw_precision_recall(pictures / "precision_recall.png", curves, focus)
        charts.draw_calibration(pictures / "calibration.png", calibration, metrics["model"]["ece"])
        if found:
            charts.draw_finding(pictures / "finding.png", finding)
        charts.draw_scores(pictures / "scores.png", summaries, metrics["model"], level)
    return recalls
