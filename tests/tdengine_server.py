"""A stand-in for TDengine's REST interface, both dialects, with real bytes and every known way to fail.

    python tests/tdengine_server.py --frames 2000        serves made-up frames and prints its address

The answers have the shapes that TDengine 2.6.0.65 (its own httpd) and 3.3.0.1 (taosAdapter) gave. The SQL reader knows
the statements of thermal_action.sources.tdengine and rejects everything else, as the servers reject a syntax error.
"""

import argparse
import base64
import gzip
import json
import random
import re
import socket
import struct
import threading
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

PIECE = 16384
TICKS = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
TYPES_2X = {"BOOL": 1, "INT": 4, "BIGINT": 5, "FLOAT": 6, "DOUBLE": 7, "VARCHAR": 8, "TIMESTAMP": 9, "NCHAR": 10}
BYTES = {"BOOL": 1, "INT": 4, "BIGINT": 8, "FLOAT": 4, "DOUBLE": 8, "TIMESTAMP": 8}
SELECT = re.compile(r"select (?P<what>.+?) from `(?P<database>[^`]+)`\.`(?P<table>[^`]+)`(?: where (?P<where>.+?))?"
                    r"(?: order by `(?P<order>[^`]+)`(?P<desc> desc)?)?(?: limit (?P<limit>\d+))?")
CONDITION = re.compile(r"`([^`]+)`(<=|>=|<|>)(-?\d+)")
PRECISION = re.compile(r"select name,`precision` from information_schema\.ins_databases where name='([A-Za-z0-9_]+)'")
# what goes wrong -> (3.x, 3.x with httpCodeServerError, 2.x), each a status and a code
ERRORS = {
    "no header": ((401, 4357), (401, 4357), (401, 4357)),
    "bad basic": ((401, 4388), (401, 4388), (401, 4388)),
    "unknown scheme": ((401, 4386), (401, 4386), (401, 4387)),
    "wrong password": ((200, 855), (401, 855), (400, 3)),
    "unknown user": ((200, 849), (401, 849), (400, 849)),
    "no sql": ((400, 4359), (400, 4359), (400, 4359)),
    "url": ((404, 0), (404, 0), (400, 4353)),
    "query string": ((200, 0), (200, 0), (400, 4354)),
    "syntax": ((200, 9728), (400, 9728), (400, 534)),
    "no database": ((200, 9750), (500, 9750), (400, 535)),
    "table": ((200, 9826), (500, 9826), (400, 866)),
    "table, other versions": ((200, 9731), (500, 9731), (400, 866)),
    "column": ((200, 9730), (500, 9730), (400, 512)),
    "too long": ((200, 537), (400, 537), (400, 537)),
    "unreachable": ((200, 11), (502, 11), (400, 11)),
    "reference": ((200, 266), (500, 266), (400, 266)),
    "pool": ((503, 65535), (503, 65535), (503, 65535)),
    "whitelist": ((403, 65535), (403, 65535), (403, 65535)),
    "other": ((200, 1234), (500, 1234), (400, 1234)),
}
TEXTS = {"wrong password": "Authentication failure", "table": "Fail to get table info, error: Table does not exist",
         "unreachable": "Unable to establish connection", "pool": "get connection timeout"}


class Broken(Exception):
    """A statement or a request that the server answers with an error of ERRORS."""


@dataclass
class Table:
    """Columns as name -> type (VARCHAR(n), VARBINARY(n), NCHAR(n), INT, BIGINT, FLOAT, DOUBLE, BOOL, TIMESTAMP first).

    `rows` are in the order of the columns and ascending by time; a value may be None, and bytes in a VARCHAR or VARBINARY.
    """

    columns: dict[str, str]
    rows: list[tuple]
    # (how, columns) -> the rows as JSON, made once
    rendered: dict = field(default_factory=dict)

    def __post_init__(self):
        self.times = [row[0] for row in self.rows]


@dataclass
class Fault:
    """What befalls the next `times` requests whose SQL holds `match`, after `skip` of them got through.

    short        only `rows` rows (half, by default), otherwise a perfect answer
    error        the error `name` of ERRORS after `delay_s`
    status       status `status` with the body `body`
    drop         the chunked body is cut in the middle; `length`: the same with Content-Length
    reset        the connection closes before the status line
    cut          the JSON ends in the middle, the body properly
    hang         nothing more comes: `part` is "header" (nothing at all), "body" (half of it)
    drip         one piece every `delay_s`, `pieces` of them; `length`: with Content-Length instead of chunks
    html, redirect, no data, extra
                 a proxy's page with status 200; a 302; {"code":0} without data; unknown keys in the answer
    swap, repeat, other
                 two rows exchanged; a row twice; a row with another time
    change       whatever `change` makes of a perfect answer
    """

    kind: str
    match: str = ""
    times: int = 1
    skip: int = 0
    name: str = "unreachable"
    rows: int | None = None
    status: int = 503
    body: bytes = b""
    length: bool = False
    part: str = "body"
    delay_s: float = 0.0
    pieces: int = 50
    change: Callable[[bytes], bytes] | None = None

    @property
    def before_the_table(self) -> bool:
        kinds = ("reset", "error", "status", "html", "redirect", "no data")
        return self.kind in kinds or self.kind == "hang" and self.part == "header"


class TDengineServer:
    """`with TDengineServer("3.x") as server:` serves server.tables at server.url; `server.faults` go wrong once each."""

    def __init__(self, dialect: str = "3.x", precision: str = "ms", database: str = "thermal", user: str = "reader",
                 password: str = "se'cret\\word", token: str | None = None, row_limit: int | None = None,
                 error_status: bool = False, token_in_url: bool = False):
        self.dialect, self.precision, self.database = dialect, precision, database
        self.user, self.password, self.token, self.token_in_url = user, password, token, token_in_url
        # restfulRowLimit and httpCodeServerError of the servers' configuration
        self.row_limit = 10_240 if row_limit is None and dialect == "2.x" else row_limit
        self.error_status = error_status
        self.tables: dict[str, Table] = {}
        self.faults: list[Fault] = []
        self.statements: list[str] = []
        self.accepted_encodings: list[str] = []
        self.requests = self.connections = self.busy = self.most_busy = 0
        self.lock = threading.Lock()
        self.port = 0
        self.open: set[socket.socket] = set()
        self.released = threading.Event()
        self.http: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "TDengineServer":
        return self.start()

    def __exit__(self, *error) -> None:
        self.stop()

    def start(self) -> "TDengineServer":
        """Listens; after a stop, again at the same port."""
        self.released.clear()
        self.http = Listener(("127.0.0.1", self.port), Handler)
        self.http.stand_in = self
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def stop(self) -> None:
        """Gone, in the middle of whatever it was doing."""
        if self.http is None:
            return
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        with self.lock:
            connections = list(self.open)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster
        self.thread.join()
        self.http = None

    def add(self, name: str, columns: dict[str, str], rows: list[tuple]) -> Table:
        self.tables[name] = Table(columns, rows)
        return self.tables[name]

    def fail(self, kind: str, **options) -> Fault:
        fault = Fault(kind, **options)
        with self.lock:
            self.faults.append(fault)
        return fault

    def fault_of(self, sql: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.match in sql and fault.times > 0:
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def error(self, name: str) -> tuple[int, int]:
        return ERRORS[name][2 if self.dialect == "2.x" else 1 if self.error_status else 0]

    def query(self, sql: str, path: str = "/rest/sqlt") -> tuple[list[tuple[str, str]], list[bytes]]:
        """Columns (name, type) and rows (JSON) of a statement; Broken with the name of what is wrong with it.

        2.x gives times as numbers under /rest/sqlt only, elsewhere in the server's zone, which here is UTC+8.
        """
        if sql == "select server_version()":
            return [("server_version()", "VARCHAR(12)")], [b'["2.6.0.65"]' if self.dialect == "2.x" else b'["3.3.0.1"]']
        if self.dialect == "2.x" and sql == "show databases":
            rows = [(self.database, 0, 3, self.precision), ("log", 0, 1, "us")]
            columns = [("name", "VARCHAR(32)"), ("created_time", "TIMESTAMP"), ("ntables", "INT"), ("precision", "VARCHAR(3)")]
            return columns, [json.dumps(row, separators=(",", ":")).encode() for row in rows]
        precision = PRECISION.fullmatch(sql)
        if self.dialect != "2.x" and precision:
            row = json.dumps([self.database, self.precision], separators=(",", ":")).encode()
            return [("name", "VARCHAR(64)"), ("precision", "VARCHAR(2)")], [row] if precision[1] == self.database else []
        select = SELECT.fullmatch(sql)
        if not select:
            raise Broken("syntax")
        return self.select(**select.groupdict(), numbers=self.dialect == "2.x" and path == "/rest/sqlt")

    def select(self, numbers: bool, what: str, database: str, table: str, where: str | None, order: str | None, desc: str | None,
               limit: str | None) -> tuple[list[tuple[str, str]], list[bytes]]:
        if database != self.database or table not in self.tables:
            raise Broken("table")
        found = self.tables[table]
        time_column = next(iter(found.columns))
        begin, end = 0, len(found.times)
        for condition in where.split(" and ") if where else []:
            parts = CONDITION.fullmatch(condition)
            if not parts:
                raise Broken("syntax")
            if parts[1] != time_column:
                raise Broken("column")
            begin, end = narrowed(found.times, parts[2], int(parts[3]), begin, end)
        if order not in (None, time_column):
            raise Broken("column")
        end = max(begin, end)
        if what == "count(*)":
            # 2.x answers a count of nothing with no row
            return [("count(*)", "BIGINT")], [b"[%d]" % (end - begin)] if end > begin or self.dialect != "2.x" else []
        columns = [self.column(name, found) for name in what.split(",")]
        rows = self.rendered(found, columns, numbers)
        chosen = slice(begin, end if limit is None else min(end, begin + int(limit)))
        if desc:
            chosen = slice(max(begin, end - int(limit)) if limit is not None else begin, end)
        selected = rows[chosen][::-1] if desc else rows[chosen]
        return [(shown, kind) for shown, _, kind in columns], selected

    def column(self, text: str, table: Table) -> tuple[str, str, str]:
        """(name in the answer, name in the table, type) of one item of a select list."""
        parts = re.fullmatch(r"(?:cast\(`(?P<cast>[^`]+)` as bigint\)|`(?P<plain>[^`]+)`)", text)
        if not parts:
            raise Broken("syntax")
        name = parts["cast"] or parts["plain"]
        if name not in table.columns:
            raise Broken("column")
        return (f"cast({name} as bigint)", name, "BIGINT") if parts["cast"] else (name, name, table.columns[name])

    def rendered(self, table: Table, columns: list[tuple[str, str, str]], numbers: bool) -> list[bytes]:
        key = (numbers, *columns)
        if key not in table.rendered:
            places = [list(table.columns).index(name) for _, name, _ in columns]
            kinds = [kind.partition("(")[0] for _, _, kind in columns]
            kinds = ["BIGINT" if kind == "TIMESTAMP" and numbers else kind for kind in kinds]
            chosen = list(zip(places, kinds, strict=True))
            table.rendered[key] = [b"[" + b",".join(self.value(row[place], kind) for place, kind in chosen) + b"]"
                                   for row in table.rows]
        return table.rendered[key]

    def value(self, value: object, kind: str) -> bytes:
        """One value as the dialect writes it."""
        if value is None or value != value:
            return b"null"
        if kind == "TIMESTAMP":
            seconds, rest = divmod(value, TICKS[self.precision])
            fraction = f"{rest:0{len(str(TICKS[self.precision])) - 1}d}"
            if self.dialect == "2.x":
                return f'"{datetime.fromtimestamp(seconds + 8 * 3600, UTC):%Y-%m-%d %H:%M:%S}.{fraction}"'.encode()
            return f'"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction}Z"'.encode()
        if kind in ("VARCHAR", "NCHAR"):
            return quoted(value if isinstance(value, bytes) else value.encode(), self.dialect)
        if kind == "VARBINARY":
            return b'"' + value.hex().encode() + b'"'
        if kind in ("FLOAT", "DOUBLE") and self.dialect == "2.x":
            return (b"%.5f" if kind == "FLOAT" else b"%.9f") % value
        if kind == "BOOL":
            return str(int(value)).encode() if self.dialect == "2.x" else str(bool(value)).lower().encode()
        return repr(int(value) if float(value).is_integer() else float(value)).encode()


def narrowed(times: list[int], operator: str, limit: int, begin: int, end: int) -> tuple[int, int]:
    if operator[0] == ">":
        return max(begin, (bisect_left if operator == ">=" else bisect_right)(times, limit)), end
    return begin, min(end, (bisect_right if operator == "<=" else bisect_left)(times, limit))


def quoted(text: bytes, dialect: str) -> bytes:
    """3.x escapes control bytes, 2.x leaves them raw, cuts at NUL and loses texts of 16384 bytes; both leave bytes >= 0x80."""
    text = text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    if dialect == "2.x":
        text = text.partition(b"\0")[0]
        return b'""' if len(text) >= 16384 else b'"' + text + b'"'
    return b'"' + re.sub(rb"[\x00-\x1f]", lambda control: b"\\u%04x" % control[0][0], text) + b'"'


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    stand_in: TDengineServer

    def handle_error(self, request, client_address) -> None:
        """Clients of these tests hang up in the middle: that is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: Listener

    def setup(self) -> None:
        super().setup()
        self.stand_in = self.server.stand_in
        with self.stand_in.lock:
            self.stand_in.open.add(self.connection)
            self.stand_in.connections += 1
        self.stale_rows = 2

    def finish(self) -> None:
        with self.stand_in.lock:
            self.stand_in.open.discard(self.connection)
        super().finish()

    def log_message(self, *message) -> None:
        pass

    def do_GET(self) -> None:
        self.refuse("url" if self.stand_in.dialect != "2.x" else "no sql")

    def do_POST(self) -> None:
        stand_in = self.stand_in
        with stand_in.lock:
            stand_in.busy += 1
            stand_in.requests += 1
            stand_in.most_busy = max(stand_in.most_busy, stand_in.busy)
            stand_in.accepted_encodings.append(self.headers.get("Accept-Encoding", ""))
        try:
            self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode().strip())
        except Broken as broken:
            self.refuse(str(broken))
        finally:
            with stand_in.lock:
                stand_in.busy -= 1

    def answer(self, sql: str) -> None:
        stand_in = self.stand_in
        self.check_request(sql)
        sql = sql.partition(";")[0]
        with stand_in.lock:
            stand_in.statements.append(sql)
        fault = stand_in.fault_of(sql)
        if fault and fault.before_the_table:
            return self.fail_before(fault)
        columns, rows = stand_in.query(sql, urlsplit(self.path).path)
        if stand_in.row_limit is not None:
            rows = rows[:stand_in.row_limit]
        body = self.body(columns, disturbed(rows, fault), extra=fault is not None and fault.kind == "extra")
        self.send_body(200, fault.change(body) if fault and fault.change else body, fault)

    def check_request(self, sql: str) -> None:
        """Address and authorization, in the order in which the servers look at them."""
        stand_in, address = self.stand_in, urlsplit(self.path)
        tokens = parse_qs(address.query).get("token", []) if stand_in.token_in_url else []
        if stand_in.dialect == "2.x" and address.query:
            raise Broken("query string")
        if address.path not in (("/rest/sql", "/rest/sqlt", "/rest/sqlutc") if stand_in.dialect == "2.x" else ("/rest/sql",)):
            raise Broken("url")
        scheme, _, content = self.headers.get("Authorization", "").partition(" ")
        if not tokens and not scheme:
            raise Broken("no header")
        if tokens or scheme == "Bearer" and stand_in.token:
            if (tokens or [content])[0] != stand_in.token:
                raise Broken("wrong password")
        elif scheme != "Basic":
            raise Broken("unknown scheme")
        else:
            self.check_basic(content)
        if not sql:
            raise Broken("no sql")
        if len(sql) > 1 << 20:
            raise Broken("too long")

    def check_basic(self, content: str) -> None:
        try:
            user, colon, password = base64.b64decode(content, validate=True).decode().partition(":")
        except ValueError:
            raise Broken("bad basic") from None
        if not colon:
            raise Broken("bad basic")
        if user != self.stand_in.user:
            raise Broken("unknown user")
        if password != self.stand_in.password:
            raise Broken("wrong password")

    def body(self, columns: list[tuple[str, str]], rows: list[bytes], extra: bool) -> bytes:
        """The answer with its keys in the servers' order; `rows` may be stale in 2.x."""
        names = json.dumps([name for name, _ in columns], separators=(",", ":")).encode()
        numeric = self.stand_in.dialect == "2.x"
        meta = [[name, TYPES_2X.get(kind.partition("(")[0], 8) if numeric else kind.partition("(")[0], length_of(kind)]
                for name, kind in columns]
        meta = json.dumps(meta, separators=(",", ":")).encode()
        count = len(rows)
        if numeric and count < 2:
            count, self.stale_rows = self.stale_rows, 1
        begin = b'{"status":"succ","head":' + names + b',"column_meta":' if numeric else b'{"code":0,"column_meta":'
        begin += meta + (b',"timing":1234,"note":{"a":[1]}' if extra else b"")
        return begin + b',"data":[' + b",".join(rows) + b'],"rows":%d}' % count

    def refuse(self, name: str) -> None:
        status, code = self.stand_in.error(name)
        if status == 404:
            return self.send_body(404, b"404 page not found", kind="text/plain")
        text = TEXTS.get(name.partition(",")[0], name)
        if self.stand_in.dialect == "2.x":
            self.close_connection = True
            answer = b'{"status":"error","code":%d,"desc":%s}'
        else:
            answer = b'{"code":%d,"desc":%s}'
        self.send_body(status, answer % (code, json.dumps(text).encode()), close=self.close_connection)

    def fail_before(self, fault: Fault) -> None:
        """The faults for which no table is read."""
        if fault.kind == "reset":
            return self.hang_up()
        if fault.kind == "hang":
            self.stand_in.released.wait()
            return self.hang_up()
        self.stand_in.released.wait(fault.delay_s)
        if fault.kind == "error":
            raise Broken(fault.name)
        if fault.kind == "redirect":
            self.send_response(302)
            self.send_header("Location", f"{self.stand_in.url}/elsewhere?token=abc")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fault.kind == "html":
            self.send_body(200, b"<html><body>Please sign in to the \x01 network</body></html>", kind="text/html")
        elif fault.kind == "no data":
            self.send_body(200, b'{"code":0}')
        else:
            self.send_body(fault.status, fault.body)

    def send_body(self, status: int, body: bytes, fault: Fault | None = None, kind: str = "", close: bool = False) -> None:
        encoded = "gzip" in self.headers.get("Accept-Encoding", "")
        if encoded:
            body = gzip.compress(body, 1, mtime=0)
        if fault and fault.kind == "cut":
            body = body[: len(body) // 2]
        length = fault is not None and fault.length
        self.send_response(status)
        self.send_header("Content-Type", kind or ("application/json;charset=utf-8" if self.stand_in.dialect == "2.x"
                                                  else "application/json; charset=utf-8"))
        if encoded:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body))) if length else self.send_header("Transfer-Encoding", "chunked")
        if close:
            self.send_header("Connection", "Close")
        self.end_headers()
        if fault and fault.kind in ("drop", "hang"):
            self.send_pieces(body[: len(body) // 2], length, last=False)
            self.wfile.flush()
            if fault.kind == "hang":
                self.stand_in.released.wait()
            return self.hang_up()
        if fault and fault.kind == "drip":
            return self.drip(body, fault)
        self.send_pieces(body, length)

    def send_pieces(self, body: bytes, length: bool, last: bool = True) -> None:
        if length:
            self.wfile.write(body)
            return
        for begin in range(0, len(body), PIECE):
            piece = body[begin : begin + PIECE]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if last:
            self.wfile.write(b"0\r\n\r\n")

    def drip(self, body: bytes, fault: Fault) -> None:
        size = max(1, len(body) // fault.pieces)
        for begin in range(0, len(body), size):
            self.send_pieces(body[begin : begin + size], fault.length, last=False)
            self.wfile.flush()
            if self.stand_in.released.wait(fault.delay_s):
                return self.hang_up()
        if not fault.length:
            self.wfile.write(b"0\r\n\r\n")

    def hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


def disturbed(rows: list[bytes], fault: Fault | None) -> list[bytes]:
    """The rows as a fault leaves them."""
    rows = list(rows)
    kind, middle = fault.kind if fault else "", len(rows) // 2
    if kind == "short":
        return rows[: middle if fault.rows is None else fault.rows]
    if kind == "swap" and len(rows) > 1:
        rows[middle - 1], rows[middle] = rows[middle], rows[middle - 1]
    if kind == "repeat" and rows:
        rows.insert(middle, rows[middle])
    if kind == "other" and rows:
        rows[middle] = re.sub(rb"\d(?=[,\]])", lambda digit: b"%d" % (int(digit[0]) ^ 1), rows[middle], count=1)
    return rows


def length_of(kind: str) -> int:
    declared = re.search(r"\d+", kind)
    return int(declared[0]) if declared else BYTES[kind]


COLUMNS = {"ts": "TIMESTAMP", "frame_data": "VARCHAR(16374)", "width": "INT", "height": "INT", "frame_seq": "BIGINT"}


def float_payload(values: list[float]) -> str:
    """base64 of a zlib stream of little-endian float32, as the devices write it."""
    return base64.b64encode(zlib.compress(struct.pack(f"<{len(values)}f", *values), 1)).decode()


def made_up_rows(frames: int, start: int, width: int = 60, height: int = 40, period: int = 170, seed: int = 0) -> list[tuple]:
    """Rows of a table with COLUMNS: noise of 0.1 C, which deflates to about what the sensor's own frames do."""
    noise, levels, rows = random.Random(seed), [20 + level / 10 for level in range(64)], []
    for number in range(frames):
        values = noise.choices(levels, k=width * height)
        rows.append((start + number * period + number % 7, float_payload(values), width, height, number))
    assert all(later[0] > earlier[0] for earlier, later in pairwise(rows))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2000, help="frames in each table")
    parser.add_argument("--tables", type=int, default=4, help="devices: 02:00:00:00:00:00, ...:01, ...")
    parser.add_argument("--dialect", choices=("2.x", "3.x"), default="3.x")
    parser.add_argument("--start", type=int, default=1_760_000_000_000, help="time of the first frame, ms")
    options = parser.parse_args()
    with TDengineServer(options.dialect, user="root", password="taosdata") as server:
        rows = made_up_rows(options.frames, options.start)
        for number in range(options.tables):
            server.add(f"sensor_02_00_00_00_00_{number:02x}", COLUMNS, rows)
        print(server.url, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
