"""The table of one sensor: names that are safe in SQL, and the four statements that the fetcher sends.

Keys first: the times (and sequence numbers) of the frames around a keyframe, which are narrow; then the frames of that
range, ascending, by cursor. Every statement asks the device's own table with integer times in the database's precision,
so that no time zone and no big sort is involved.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from thermal_action import InputError, shown
from thermal_action.keyframes import MAC_ADDRESS
from thermal_action.sources.tdengine.rest import Client

DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# printable ASCII; a backtick cannot be escaped, and quotes, backslashes and semicolons have no business in a name
IDENTIFIER = re.compile(r"[ !#-&(-:<-\[\]-_a-~]{1,192}")
# ticks of the database's precision in a millisecond
TICKS = {"ms": 1, "us": 1_000, "ns": 1_000_000}
KEYS_PER_REQUEST = 10_000


@dataclass(frozen=True)
class Columns:
    """Names in the sensors' tables; null for a width and height that the parameters give, or a missing frame_seq."""

    ts: str = "ts"
    frame_data: str = "frame_data"
    width: str | None = "width"
    height: str | None = "height"
    frame_seq: str | None = "frame_seq"

    def __post_init__(self):
        for role, name in vars(self).items():
            if name is not None or role in ("ts", "frame_data"):
                checked_identifier(name, f"columns.{role}")


def checked_identifier(name: object, parameter: str) -> str:
    if not isinstance(name, str) or not IDENTIFIER.fullmatch(name):
        raise InputError(f"{parameter} is {name!r}: a name in TDengine has 1 to 192 printable ASCII characters, without "
                         "backticks, quotes, backslashes and semicolons")
    return name


def checked_database(name: object) -> str:
    if not isinstance(name, str) or not DATABASE.fullmatch(name):
        raise InputError(f"database is {name!r}: a name of letters, digits and '_' (at most 64) is expected")
    return name


def checked_pattern(pattern: object) -> str:
    if not isinstance(pattern, str) or "{mac}" not in pattern and "{MAC}" not in pattern:
        raise InputError(f"table is {pattern!r}: the name of a device's table with {{mac}} (or {{MAC}}) in it is expected")
    table_name(pattern, "00:00:00:00:00:00")
    return pattern


def table_name(pattern: str, mac_address: str) -> str:
    """`sensor_{mac}` and 02:00:1A:62:51:67 give sensor_02_00_1a_62_51_67; `{MAC}` keeps upper case letters."""
    if not MAC_ADDRESS.fullmatch(mac_address):
        raise InputError(f"mac_address {mac_address!r} is not six hex pairs joined by ':'")
    underscored = mac_address.replace(":", "_")
    name = pattern.replace("{mac}", underscored.lower()).replace("{MAC}", underscored.upper())
    return checked_identifier(name, "table")


def read_precision(client: Client, database: str) -> str:
    """ms, us or ns: what one tick of the database's times is."""
    if client.dialect == "2.x":
        answer = client.answer("show databases")
        head = answer.get("head")
        names = [column.lower() if isinstance(column, str) else "" for column in head] if isinstance(head, list) else []
        if not {"name", "precision"} <= set(names):
            raise InputError(f"TDengine at {client.transport.url} does not tell the precision of its databases: it is too old")
        rows = [(row[names.index("name")], row[names.index("precision")]) for row in answer["data"] if len(row) == len(head)]
    else:
        rows = client.rows(f"select name,`precision` from information_schema.ins_databases where name='{database}'")
    precisions = {row[0]: row[1] for row in rows if [type(value) for value in row] == [str, str]}
    if database not in precisions:
        raise InputError(f"TDengine at {client.transport.url} shows these credentials no database {database!r}: correct "
                         "`database` (upper and lower case differ) or the rights of the user")
    if precisions[database] not in TICKS:
        raise InputError(f"database {database!r} has the precision {shown(precisions[database])}, none of {', '.join(TICKS)}")
    return precisions[database]


@dataclass
class Run:
    """Neighbouring frames of one table: their times in ticks, ascending, and their sequence numbers."""

    times: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    # no later frame exists
    ended: bool = False

    def extend(self, keys: list[tuple[int, int]]) -> None:
        self.times += [time for time, _ in keys]
        self.sequences += [sequence for _, sequence in keys]


class SensorTable:
    """Reads one device's table through `client`; `ticks` are the database's ticks in a ms."""

    def __init__(self, client: Client, database: str, name: str, columns: Columns, ticks: int, page_rows: int):
        self.client, self.name, self.columns, self.ticks, self.page_rows = client, name, columns, ticks, page_rows
        self.source = f"`{checked_database(database)}`.`{checked_identifier(name, 'table')}`"
        self.ts = f"`{columns.ts}`"

    def keys_until(self, time: int, limit: int) -> list[tuple[int, int]]:
        """The last `limit` frames at or before `time` (ticks), ascending."""
        keys: list[tuple[int, int]] = []
        while len(keys) < limit:
            until = keys[-1][0] - 1 if keys else time
            page = self._keys(f"{self.ts}<={until}", " desc", limit - len(keys))
            if not page:
                break
            self._check_asked(page[0][0] <= until)
            keys += page
        return self._neighbours(keys[::-1], limit)

    def keys_after(self, time: int, limit: int) -> list[tuple[int, int]]:
        """The first `limit` frames after `time` (ticks), ascending."""
        keys: list[tuple[int, int]] = []
        while len(keys) < limit:
            after = keys[-1][0] if keys else time
            page = self._keys(f"{self.ts}>{after}", "", limit - len(keys))
            if not page:
                break
            self._check_asked(page[0][0] > after)
            keys += page
        return self._neighbours(keys, limit)

    def count(self, after: int, until: int, expected: int) -> int:
        """COUNT(*) of the frames with after < time <= until; an empty answer is not believed where some are expected."""
        return self._count(f"{self.ts}>{after} and {self.ts}<={until}", some=expected > 0)

    def pages(self, after: int, times: list[int]) -> Iterator[list[list]]:
        """The rows of the frames at `times`, page after page, each row as [time, frame_data, width, height, frame_seq].

        A page may be shorter than asked for (a row limit of the server, an error that it swallowed): the next one
        begins behind it, and the end is where `times` ends. InputError when other rows come than these.
        """
        received = 0
        while received < len(times):
            cursor = times[received - 1] if received else after
            rows = self._rows(f"{self.ts}>{cursor} and {self.ts}<={times[-1]}", self.page_rows, some=True)
            self._check_times([self._time(row) for row in rows], times[received : received + len(rows)])
            received += len(rows)
            yield rows

    def rows_after(self, time: int) -> list[list]:
        """A page of the rows after `time` (ticks), ascending, as `pages` gives them; none where nothing has come since."""
        rows = self._rows(f"{self.ts}>{time}", self.page_rows, some=False)
        self._ascending([(self._time(row), 0) for row in rows])
        return rows

    def _rows(self, where: str, limit: int, some: bool) -> list[list]:
        columns = self.columns
        names = [columns.frame_data, columns.width, columns.height, columns.frame_seq]
        selected = ",".join([self._ts_column()] + [f"`{name}`" for name in names if name is not None])
        width = 1 + len(names) - names.count(None)
        rows = self.client.rows(f"select {selected} from {self.source} where {where} order by {self.ts} limit {limit}", some)
        if any(len(row) != width for row in rows):
            raise InputError(f"table {self.name}: a row has not the {width} columns asked for: see that no proxy changes answers")
        return [with_absent(row, names) for row in rows] if None in names else rows

    def _neighbours(self, keys: list[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
        self._ascending(keys)
        self._check_asked(len(keys) <= limit)
        return keys

    def _check_asked(self, asked: bool) -> None:
        if not asked:
            raise InputError(f"table {self.name}: other frames came than the request names: see that no proxy keeps answers of "
                             "other requests")

    def _check_times(self, received: list, expected: list[int]) -> None:
        if received != expected:
            self._ascending([(time, 0) for time in received])
            raise InputError(f"table {self.name}: between {expected[0]} and {expected[-1]} other frames came than were "
                             "there a moment ago: start the fetch again when nothing writes to this time range")

    def _ts_column(self) -> str:
        # numbers in either dialect: /rest/sqlt gives them by itself, and the CAST is missing in early 2.x
        return self.ts if self.client.dialect == "2.x" else f"cast({self.ts} as bigint)"

    def _keys(self, where: str, order: str, limit: int) -> list[tuple[int, int]]:
        """One page of keys; empty only when COUNT(*) says so too."""
        sequence = self.columns.frame_seq
        selected = self._ts_column() + (f",`{sequence}`" if sequence is not None else "")
        most = min(limit, KEYS_PER_REQUEST)
        sql = f"select {selected} from {self.source} where {where} order by {self.ts}{order} limit {most}"
        rows = self.client.rows(sql)
        if not rows and self._count(where):
            rows = self.client.rows(sql, some=True)
        return [(self._time(row), self._sequence(row)) for row in rows]

    def _count(self, where: str, some: bool = False) -> int:
        rows = self.client.rows(f"select count(*) from {self.source} where {where}", some)
        # 2.x sends no row for a count of nothing, nor does 3.x with countAlwaysReturnValue=0
        if not rows:
            return 0
        if len(rows) != 1 or len(rows[0]) != 1 or type(rows[0][0]) is not int:
            raise InputError(f"table {self.name}: COUNT(*) gave {shown(rows)}: see that no proxy changes answers")
        return rows[0][0]

    def _time(self, row: list) -> int:
        if not row or type(row[0]) is not int or not -1 << 63 <= row[0] < 1 << 63:
            raise InputError(f"table {self.name}: the time {shown(row[:1])} is no whole number: `columns.ts` must name its "
                             "TIMESTAMP column")
        return row[0]

    def _sequence(self, row: list) -> int:
        if self.columns.frame_seq is None:
            return self._time(row) // self.ticks
        return whole(row[1] if len(row) > 1 else None, f"table {self.name}, ts {self._time(row)}", self.columns.frame_seq)

    def _ascending(self, keys: list[tuple[int, int]]) -> list[tuple[int, int]]:
        for (earlier, _), (later, _) in zip(keys, keys[1:], strict=False):
            if later <= earlier:
                raise InputError(f"table {self.name}, ts {later}: this frame came behind the one of {earlier}, though times "
                                 "must strictly increase: see that the table is one device's own, not a super table")
        return keys


def with_absent(row: list, names: list[str | None]) -> list:
    """A row (time, values) with None for the columns that the table does not have."""
    values = iter(row[1:])
    return [row[0], *(None if name is None else next(values) for name in names)]


def whole(value: object, place: str, column: str) -> int:
    """An integer, also from a FLOAT column (2.x writes 60 as 60.00000)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not -1 << 63 <= value < 1 << 63:
        raise InputError(f"{place}: {column} is {shown(value)}, not a whole number of 64 bits: correct the row or name another "
                         "column")
    return value


def last_tick(milliseconds: int, ticks: int) -> int:
    """The last tick of a millisecond: frames of a finer precision that fall into it are not after it."""
    return (milliseconds + 1) * ticks - 1


def runs_around(table: SensorTable, keyframe_times: list[int], buffer_frames: int) -> list[Run]:
    """The frames within `buffer_frames` of each keyframe (ms, ascending) on either side, as runs of neighbouring frames.

    Windows that touch are one run: what an earlier keyframe brought is not asked for again.
    """
    runs: list[Run] = []
    for keyframe_time in keyframe_times:
        time = last_tick(keyframe_time, table.ticks)
        if not runs or not runs[-1].times or time > runs[-1].times[-1]:
            before = table.keys_until(time, buffer_frames + 1)
            known = runs[-1].times[-1] if runs and runs[-1].times else None
            if known is None or not before or before[0][0] > known:
                runs.append(Run())
                known = None
            runs[-1].extend([key for key in before if known is None or key[0] > known])
        run = runs[-1]
        missing = buffer_frames - (len(run.times) - bisect_right(run.times, time))
        if missing > 0 and not run.ended:
            after = table.keys_after(run.times[-1] if run.times else time, missing)
            run.ended = len(after) < missing
            run.extend(after)
    return runs
