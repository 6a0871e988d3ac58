"""One run over all recordings, in three rounds of threads: probe each sensor, find each recording's frames, fetch them."""

import threading
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from thermal_action import InputError
from thermal_action.keyframes import Keyframe
from thermal_action.raw import Progress, pages, read_page
from thermal_action.raw_store import RawRecording
from thermal_action.sources.tdengine.frames import FrameCheck, probe_format, read_frame
from thermal_action.sources.tdengine.rest import Client, Credentials, Stopped, TableMissing
from thermal_action.sources.tdengine.table import TICKS, Run, SensorTable, last_tick, read_precision, runs_around

if TYPE_CHECKING:
    from thermal_action.sources.tdengine import TDengineSource

Item, Result = TypeVar("Item"), TypeVar("Result")
# so many frames of a sensor's first window are read, at most, to find three without lost packets
PROBE_DEPTH = 32
# an interrupted fetch waits this long for the page that is just being written
GRACE_S = 2.0


@dataclass
class Plan:
    """What is to be fetched for one recording, and where it goes."""

    path: Path
    keyframes: list[Keyframe]
    table: str
    raw: RawRecording
    runs: list[Run] = field(default_factory=list)


class Fetch:
    """The clients, one per connection, and what they find out about server and sensors before the frames travel."""

    def __init__(self, source: "TDengineSource", credentials: Credentials, progress: Progress):
        self.source, self._progress, self._lock = source, progress, threading.Lock()
        self.stop = threading.Event()
        self.clients = [Client(source.transport, credentials, self.stop, worker, source.sleep)
                        for worker in range(source.connections)]
        self.ticks = 1
        self.checks: dict[str, FrameCheck] = {}

    def run(self, plans: Sequence[Plan]) -> None:
        """Completes the recordings of `plans` that are not; the others of their sensors must be of the same format."""
        incomplete = [plan for plan in plans if not plan.raw.complete]
        wanted = {plan.table for plan in incomplete}
        first = {}
        for plan in sorted(plans, key=lambda plan: plan.keyframes[0].data_time):
            if plan.table in wanted:
                first.setdefault(plan.table, plan)
        try:
            dialect = self.clients[0].detect()
            for client in self.clients:
                client.dialect = dialect
            self.ticks = TICKS[read_precision(self.clients[0], self.source.database)]
            self.checks = dict(zip(first, self._side_by_side(self._probe, first.values()), strict=True))
            for plan in plans:
                if plan.raw.complete and plan.table in wanted:
                    for frame in islice(read_page(pages(plan.raw.folder)[0]), PROBE_DEPTH):
                        self.checks[plan.table].check(frame)
            for plan, runs in zip(incomplete, self._side_by_side(self._find_runs, incomplete), strict=True):
                plan.runs = runs
            self._side_by_side(self._fetch_frames, incomplete)
        finally:
            for client in self.clients:
                client.close()

    def _side_by_side(self, work: Callable[[Client, Item], Result], items: Iterable[Item]) -> list[Result]:
        """work(client, item) of every item, in its order, by one thread a client; the first error ends all threads."""
        todo, results, errors = deque(enumerate(items)), {}, {}

        def take_turns(client: Client) -> None:
            while todo and not self.stop.is_set():
                try:
                    index, item = todo.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    results[index] = work(client, item)
                except Stopped:
                    return
                except BaseException as error:  # raised again below, in the caller's thread
                    errors[index] = error
                    self.stop.set()

        # daemons: a thread that waits for the server must not keep an interrupted program alive
        threads = [threading.Thread(target=take_turns, args=(client,), daemon=True) for client in self.clients[:len(todo)]]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:
            self.stop.set()
            for thread in threads:
                thread.join(GRACE_S / len(threads))
            raise
        if errors:
            try:
                raise errors[min(errors)]
            finally:
                errors.clear()  # else the error's traceback and `errors` keep each other, and the locked store, alive
        return [results[index] for index in sorted(results)]

    def _table(self, client: Client, name: str) -> SensorTable:
        return SensorTable(client, self.source.database, name, self.source.columns, self.ticks, self.source.page_rows)

    def _probe(self, client: Client, plan: Plan) -> FrameCheck:
        """Format and size of a sensor's frames, from those before its first keyframe (or behind it, where there are none)."""
        source, table = self.source, self._table(client, plan.table)
        keyframe = plan.keyframes[0]
        time, depth = last_tick(keyframe.data_time, self.ticks), min(PROBE_DEPTH, source.buffer_frames + 1)
        try:
            keys = table.keys_until(time, depth) or table.keys_after(time, depth)
        except TableMissing as missing:
            raise InputError(f"{place(plan, keyframe)}: {missing}; table {plan.table} of database {source.database} should "
                             "hold its frames: correct mac_address, or the parameter `table`") from None
        if not keys:
            raise InputError(f"{place(plan, keyframe)}: table {plan.table} holds no frame at all: correct mac_address, or "
                             "load the recording into the database")
        times = [time for time, _ in keys]
        frames = [read_frame(row, plan.table, source.columns, source.shape, self.ticks)
                  for rows in table.pages(times[0] - 1, times) for row in rows]
        payload = probe_format(frames, plan.table, **source.format)
        return FrameCheck(plan.table, payload, frames[0].width, frames[0].height)

    def _find_runs(self, client: Client, plan: Plan) -> list[Run]:
        runs = runs_around(self._table(client, plan.table), [keyframe.data_time for keyframe in plan.keyframes],
                           self.source.buffer_frames)
        times = [time // self.ticks for run in runs for time in run.times]
        for keyframe in plan.keyframes:
            position = bisect_left(times, keyframe.data_time)
            distance = min((abs(time - keyframe.data_time) for time in times[max(0, position - 1) : position + 1]), default=None)
            if distance is None or distance > self.source.max_distance_ms:
                nearest = "it holds none" if distance is None else f"the nearest is {distance} ms away"
                raise InputError(f"{place(plan, keyframe)}: table {plan.table} holds no frame within "
                                 f"{self.source.max_distance_ms} ms (max_distance_ms), {nearest}: remove the record or load "
                                 "its frames into the database")
        return runs

    def _fetch_frames(self, client: Client, plan: Plan) -> None:
        table, raw, check = self._table(client, plan.table), plan.raw, self.checks[plan.table]
        stored = -1 if raw.last_ts is None else last_tick(raw.last_ts, self.ticks)
        self._check_stored(plan, stored)
        for run in plan.runs:
            times = run.times[bisect_right(run.times, stored):]
            if not times:
                continue
            counted = table.count(times[0] - 1, times[-1], len(times))
            if counted != len(times):
                raise InputError(f"table {plan.table}: COUNT(*) says {counted} frames from {times[0]} to {times[-1]}, but "
                                 f"{len(times)} were listed: start the fetch again when nothing writes to this time range")
            previous = None
            for rows in table.pages(times[0] - 1, times):
                if self.stop.is_set():
                    raise Stopped
                for row in rows:
                    frame = read_frame(row, plan.table, self.source.columns, self.source.shape, self.ticks)
                    check.check(frame)
                    # a recording counts milliseconds: of two frames in one the first stays, as in a table of precision ms
                    if frame.ts != previous:
                        raw.append(frame)
                    previous = frame.ts
                self._report(len(rows))
        raw.finish(check.payload, **facts(plan, self.ticks))

    def _check_stored(self, plan: Plan, stored: int) -> None:
        """The pages of an interrupted fetch must be the beginning of what is there now."""
        there = sorted({time // self.ticks for run in plan.runs for time in run.times if time <= stored})
        if there != [frame.ts for page in pages(plan.raw.folder) for frame in read_page(page)]:
            raise InputError(f"recording {plan.keyframes[0].data_id}: an interrupted fetch stored {plan.raw.frames} frames "
                             f"up to {plan.raw.last_ts}, which are no longer those of table {plan.table}: remove "
                             f"{plan.raw.folder} and start the fetch again")

    def _report(self, frames: int) -> None:
        with self._lock:
            self._progress(frames)


def place(plan: Plan, keyframe: Keyframe) -> str:
    return f"{plan.path}, record with data_time {keyframe.data_time}"


def facts(plan: Plan, ticks: int) -> dict:
    """What is worth knowing about a recording's table: where it has gaps, of which nothing was filled.

    All of it follows from the keys, so that an interrupted fetch reports the same as one in one go.
    """
    steps = [step for run in plan.runs for step in (later - earlier for earlier, later in pairwise(run.sequences))]
    pauses = [later // ticks - earlier // ticks for run in plan.runs for earlier, later in pairwise(run.times)]
    times = [time // ticks for run in plan.runs for time in run.times]
    counter = times != [sequence for run in plan.runs for sequence in run.sequences]
    return {
        "table": plan.table,
        "ranges": [[run.times[0] // ticks, run.times[-1] // ticks, len(run.times)] for run in plan.runs],
        # a table that repeats the time as frame_seq cannot tell what is missing
        "sequence_counts_frames": counter,
        "sequence_gaps": sum(step > 1 for step in steps) if counter else 0,
        "sequence_missing": sum(step - 1 for step in steps if step > 1) if counter else 0,
        "sequence_restarts": sum(step < 1 for step in steps) if counter else 0,
        "longest_pause_ms": max(pauses, default=0),
        "same_millisecond": len(times) - len(set(times)),
    }
