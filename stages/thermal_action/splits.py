"""Which keyframe trains and which one scores, such that no training window shares a frame with the other side.

A window of 64 frames lasts about ten seconds and keyframes stand one second apart, so a random split of keyframes shows
the model nearly every validation frame. Whole sessions, recordings or blocks of time change sides instead, and training
windows that still touch the other side (neighbouring recordings of one device overlap) are purged. With folds, the groups
are dealt out to n folds, and every keyframe validates in one of them. Where it is known who is recorded, whole subjects change
sides: how a model does with people it has never seen is another question than with new clips of those it knows.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from thermal_action import InputError

SplitBy = Literal["session", "recording", "time", "subject", "stratified", "keyframe", "given"]
# random assignments of groups among which the best stratified one is taken, and random orders of dealing them out to folds
CANDIDATES, DEALS = 2000, 200


@dataclass(frozen=True, slots=True)
class Window:
    """A keyframe as the split sees it: whose frames its window shows (first to last, ms), and the persons' labels."""

    image_id: str
    recording: str
    mac_address: str
    timestamp: int
    first_ms: int
    last_ms: int
    labels: tuple[int, ...]
    subject: str | None = None


@dataclass(frozen=True)
class Split:
    """Image ids of both sides, and those kept out of training because their windows touch a validation window."""

    train: list[str]
    val: list[str]
    purged: list[str]


def split_windows(windows: Sequence[Window], *, by: SplitBy, val_fraction: float, seed: int,
                  recording_spans: Mapping[str, tuple[int, int]], session_gap_s: float, block_s: float,
                  given: Mapping[str, Sequence[str]] | None = None, folds: int = 0, fold: int = 0) -> Split:
    """Assigns every window to a side.

    `recording_spans`: first and last frame time (ms) of every recording. `given`: {"train": ids, "val": ids} for by="given".
    `folds`: 0, and `val_fraction` of the windows validates; or that many folds, of which number `fold` (from 0) validates.
    Raises InputError when the data has too few groups for `by`, or a given split that does not match.
    """
    if folds == 1 or fold >= max(folds, 1):
        raise InputError(f"coco.fold {fold} of coco.folds {folds}: choose 2 to 50 folds and a fold from 0 to folds - 1, or "
                         "0 and 0 for no folds")
    if by == "given":
        if folds:
            raise InputError(f"coco.split_by given is one split and has no {folds} folds: set coco.folds to 0, or split by "
                             "session")
        return take_given(windows, given)
    if by == "keyframe":
        return split_by_keyframe(windows, val_fraction, seed, folds, fold)
    if by == "stratified":
        return purged(windows, stratify(windows, val_fraction, seed, folds, fold), by)
    groups = {
        "session": lambda: group_by_session(windows, recording_spans, session_gap_s),
        "recording": lambda: [window.recording for window in windows],
        "time": lambda: [(window.mac_address, window.timestamp // int(block_s * 1000)) for window in windows],
        "subject": lambda: [subject_of(window) for window in windows],
    }[by]()
    if len(set(groups)) < 2:
        raise InputError(f"split_by {by} finds only one {'block' if by == 'time' else by} in {len(windows)} keyframes: fetch "
                         "more recordings, or choose recording or time in `coco.split_by`")
    labels, found = [window.labels for window in windows], len(set(groups))
    if folds > found:
        raise InputError(f"coco.folds {folds}, but split_by {by} finds only {found} groups in {len(windows)} keyframes: choose "
                         f"at most {found} folds, or recording or time in `coco.split_by`")
    val_groups = deal_groups(groups, labels, folds, seed)[fold] if folds else choose_groups(groups, labels, val_fraction, seed)
    return purged(windows, [group in val_groups for group in groups], by)


def purged(windows: Sequence[Window], validates: Sequence[bool], by: SplitBy) -> Split:
    """The sides, without training windows that share a frame with the other one."""
    sides: dict[bool, list[Window]] = {False: [], True: []}
    for window, side in zip(windows, validates, strict=True):
        sides[side].append(window)
    train, val = sides[False], sides[True]
    touching = overlapping(train, val)
    if len(touching) == len(train):
        raise InputError(f"split_by {by} leaves no training window that shares no frame with validation: choose larger groups")
    return Split([window.image_id for window in train if window.image_id not in touching],
                 [window.image_id for window in val], sorted(touching))


def subject_of(window: Window) -> str:
    if window.subject is None:
        raise InputError(f"split_by subject, but the keyframes of {window.recording} do not say who is recorded: choose recording"
                         " or session in `coco.split_by`")
    return window.subject


def stratify(windows: Sequence[Window], val_fraction: float, seed: int, folds: int, fold: int) -> list[bool]:
    """Which windows validate: whole recordings, of each class the same share, whoever is recorded.

    The class of a recording is its most frequent label, ties to the lowest id; -1 where nobody is. Of each at least one
    validates and one trains, where there are two. With folds they are dealt out in turn, class after class.
    """
    labels, generator = defaultdict(Counter), np.random.default_rng(seed)
    for window in windows:
        labels[window.recording].update(window.labels)
    by_class = defaultdict(list)
    for recording, counts in sorted(labels.items()):
        by_class[min(counts, key=lambda label: (-counts[label], label), default=-1)].append(recording)
    val, dealt = set(), 0
    for _, recordings in sorted(by_class.items()):
        shuffled, count = generator.permutation(recordings).tolist(), len(recordings)
        share = min(max(round(count * val_fraction), 1), count - 1)
        val.update(shuffled[(fold - dealt) % folds :: folds] if folds else shuffled[:share])
        dealt += count
    return [window.recording in val for window in windows]


def take_given(windows: Sequence[Window], given: Mapping[str, Sequence[str]] | None) -> Split:
    if given is None:
        raise InputError("split_by given, but the source gave no split (data/raw/split.json): choose another `coco.split_by`")
    sides = {image_id: side for side in ("train", "val") for image_id in given[side]}
    both = sorted({*given["train"]} & {*given["val"]})
    if both:
        raise InputError(f"data/raw/split.json names {both[0]} on both sides ({len(both)} such): give every keyframe one side")
    unknown = sorted(sides.keys() - {window.image_id for window in windows})
    if unknown:
        raise InputError(f"data/raw/split.json names {unknown[0]} ({len(unknown)} such), but no keyframe file has it")
    missing = [window.image_id for window in windows if window.image_id not in sides]
    if missing:
        raise InputError(f"data/raw/split.json leaves out {missing[0]} ({len(missing)} such): give every keyframe a side")
    return Split([w.image_id for w in windows if sides[w.image_id] == "train"],
                 [w.image_id for w in windows if sides[w.image_id] == "val"], [])


def split_by_keyframe(windows: Sequence[Window], val_fraction: float, seed: int, folds: int, fold: int) -> Split:
    """The random split of the original guide: shuffles each recording's keyframes, the first share validates. Leaky on purpose.

    One generator runs through the recordings in order of name; with seed 42 and 0.2 this is the published split of thermal-v1.
    With folds, the keyframes in that order go to the folds in turn.
    """
    generator, val, dealt = random.Random(seed), set(), 0  # noqa: S311 - a split is no secret
    by_recording = defaultdict(list)
    for window in windows:
        by_recording[window.recording].append(window)
    for recording in sorted(by_recording):
        ids = [window.image_id for window in sorted(by_recording[recording], key=lambda window: window.timestamp)]
        generator.shuffle(ids)
        val.update(ids[(fold - dealt) % folds :: folds] if folds else ids[: int(len(ids) * val_fraction)])
        dealt += len(ids)
    return Split([w.image_id for w in windows if w.image_id not in val], [w.image_id for w in windows if w.image_id in val], [])


def group_by_session(windows: Sequence[Window], recording_spans: Mapping[str, tuple[int, int]], gap_s: float) -> list[Hashable]:
    """(device, number) per window: recordings of one device with less than `gap_s` seconds between them are one session."""
    device = {window.recording: window.mac_address for window in windows}
    session, last_end, number = {}, {}, Counter()
    for recording in sorted(device, key=lambda recording: (device[recording], recording_spans[recording], recording)):
        mac, (start, end) = device[recording], recording_spans[recording]
        if mac in last_end and start - last_end[mac] > gap_s * 1000:
            number[mac] += 1
        session[recording] = (mac, number[mac])
        last_end[mac] = max(end, last_end.get(mac, end))
    return [session[window.recording] for window in windows]


def choose_groups(groups: Sequence[Hashable], labels: Sequence[Sequence[int]], val_fraction: float, seed: int) -> set:
    """The groups that validate: of many random choices of about the right size the one whose classes are best balanced.

    Cost: |share of the class in validation - val_fraction|, weighted by the square root of its count, so that common
    classes are split well and rare ones stand on both sides where groups allow; plus the same for the number of windows.
    """
    names, counts, weights = count_groups(groups, labels)
    generator = np.random.default_rng(seed)
    best, best_cost = None, np.inf
    for _ in range(CANDIDATES):
        order = generator.permutation(len(names))
        shares = np.cumsum(counts[order, -1]) / counts[:, -1].sum()
        size = min(int(np.argmin(np.abs(shares - val_fraction))) + 1, len(names) - 1)
        chosen = order[:size]
        cost = float(weights @ np.abs(counts[chosen].sum(0) / counts.sum(0) - val_fraction))
        if cost < best_cost - 1e-12:
            best, best_cost = chosen, cost
    return {names[number] for number in best}


def count_groups(groups: Sequence[Hashable], labels: Sequence[Sequence[int]]) -> tuple[list, np.ndarray, np.ndarray]:
    """(names [G] sorted, counts [G, classes + 1] of persons per class and of windows, weights [classes + 1] that sum to 1)."""
    names = sorted(set(groups))
    index = {name: number for number, name in enumerate(names)}
    classes = sorted({label for window_labels in labels for label in window_labels})
    counts = np.zeros((len(names), len(classes) + 1))
    for group, window_labels in zip(groups, labels, strict=True):
        counts[index[group], -1] += 1
        for label in window_labels:
            counts[index[group], classes.index(label)] += 1
    weights = np.append(np.sqrt(counts[:, :-1].sum(0)), np.sqrt(counts[:, -1].sum()))
    return names, counts, weights / weights.sum()


def deal_groups(groups: Sequence[Hashable], labels: Sequence[Sequence[int]], folds: int, seed: int) -> list[set]:
    """The groups of each of `folds` folds, classes and sizes balanced; at least as many groups as folds.

    Greedy: each group goes to the fold that holds least of what the group brings, so the empty ones fill first. Of many random
    orders of dealing the best: the least sum over folds of the squared shares of each class, weighted as in choose_groups.
    """
    names, counts, weights = count_groups(groups, labels)
    shares = counts / counts.sum(0)
    generator = np.random.default_rng(seed)
    best, best_cost = None, np.inf
    for _ in range(DEALS):
        fold_of, held = np.empty(len(names), dtype=int), np.zeros((folds, shares.shape[1]))
        for group in generator.permutation(len(names)):
            fold_of[group] = np.argmin(held @ (weights * shares[group]))
            held[fold_of[group]] += shares[group]
        cost = float((np.square(held) @ weights).sum())
        if cost < best_cost - 1e-12:
            best, best_cost = fold_of, cost
    return [{names[group] for group in np.flatnonzero(best == fold)} for fold in range(folds)]


def overlapping(windows: Sequence[Window], others: Sequence[Window]) -> set[str]:
    """Ids of the windows whose span of time touches that of one of `others` on the same device."""
    touching = set()
    spans = defaultdict(list)
    for other in others:
        spans[other.mac_address].append((other.first_ms, other.last_ms))
    starts, ends = ({mac: np.sort([span[side] for span in own]) for mac, own in spans.items()} for side in (0, 1))
    for window in windows:
        if window.mac_address in spans:
            # spans begun by the window's end, less those that ended before its start
            begun = np.searchsorted(starts[window.mac_address], window.last_ms, "right")
            if begun > np.searchsorted(ends[window.mac_address], window.first_ms, "left"):
                touching.add(window.image_id)
    return touching
