"""TDengine over REST: one SELECT a request, both dialects, and a clear line between what may be asked again and what not.

3.x (taosAdapter) answers {"code":0,"column_meta":...,"data":[...],"rows":N} with status 200 for nearly everything, a
wrong password included; 2.x (httpd) answers {"status":"succ","head":...,"data":[...],"rows":N}, with status 400 for
errors. Both can break off in the middle of a result and still send a valid answer, so no answer is known to be whole by
itself: callers compare with COUNT(*). `rows` may be stale in 2.x; only len(data) counts.
"""

import base64
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import numpy as np
import requests
import urllib3

from thermal_action import InputError

# codes of both generations: 2.x, 3.x without and with httpCodeServerError
AUTHENTICATION = {3, 849, 855, 4357, 4386, 4387, 4388}
TABLE_MISSING = {866, 9731, 9826}
NO_DATABASE = {535, 9750}
SYNTAX = {512, 534, 537, 9728, 9729, 9730}
# taosd is unreachable, or comes back: the only codes worth asking again for
RETRIED_CODES = {11, 266}
RETRIED_STATUS = {502, 503}
# bytes of an answer: 10,000 of the longest payloads that TDengine holds are 655 MB
LONGEST_ANSWER = 1 << 30
PIECE = 1 << 18


class TableMissing(InputError):
    """The table that was asked for does not exist."""


class Unreachable(InputError):
    """The server was asked as often as the transport allows, and did not answer; it may later."""


class Again(Exception):
    """This request failed in a way that the next one may not."""


class Stopped(Exception):
    """Another thread failed, or the user pressed Ctrl-C."""


@dataclass(frozen=True)
class Transport:
    """How requests travel; none of it changes what is fetched. Times in seconds."""

    url: str = "http://localhost:6041"
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 60.0
    # of one request from its first byte to its last, against servers that drip
    deadline_s: float = 300.0
    retries: int = 6
    # the first pause; each further one is twice as long, up to the cap, and shortened by up to a half at random
    backoff_s: float = 0.5
    backoff_cap_s: float = 30.0
    accept_gzip: bool = False
    # TDengine Cloud takes the token as ?token= only; everybody else as a Bearer header
    token_in_url: bool = False
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "url", checked_url(self.url))
        for name in ("connect_timeout_s", "read_timeout_s", "deadline_s"):
            check_range(name, getattr(self, name), 0.1, 86_400.0)
        for name in ("backoff_s", "backoff_cap_s"):
            check_range(name, getattr(self, name), 0.0, 600.0)
        check_range("retries", self.retries, 0, 20)
        check_range("seed", self.seed, 0, 2**32 - 1)


def check_range(name: str, value: object, lowest: float, highest: float) -> float:
    """`value`, a number of the type of the limits (a whole one may stand for a float), if it lies between them."""
    kinds = (int,) if isinstance(lowest, int) else (int, float)
    if type(value) not in kinds or not lowest <= value <= highest:
        raise InputError(f"{name} is {value!r}: a {'whole ' if kinds == (int,) else ''}number from {lowest:g} to "
                         f"{highest:g} is expected")
    return value


@dataclass(frozen=True, repr=False)
class Credentials:
    """A token, or user and password. It has no repr: nothing may print it."""

    token: str = ""
    user: str = ""
    password: str = ""

    @classmethod
    def from_environment(cls) -> "Credentials":
        token, user, password = (os.environ.get(f"TDENGINE_{name}", "") for name in ("TOKEN", "USER", "PASSWORD"))
        if not token and not (user and password):
            raise InputError("TDengine needs credentials: set TDENGINE_USER and TDENGINE_PASSWORD, or TDENGINE_TOKEN, in "
                             "the environment, or get what others fetched with `dvc pull`")
        if any(not character.isprintable() for character in token + user + password):
            raise InputError("TDENGINE_USER, TDENGINE_PASSWORD or TDENGINE_TOKEN holds a control character (a newline at "
                             "its end?): set it again")
        return cls(token, user, password)

    def header(self) -> str:
        if self.token:
            return f"Bearer {self.token}"
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def remove_from(self, text: str) -> str:
        for secret in filter(None, (self.header().partition(" ")[2], self.token, self.password, self.user)):
            # also as JSON and addresses write it
            as_json = (json.dumps(secret, ensure_ascii=ascii)[1:-1] for ascii in (True, False))
            for written in (secret, *as_json, quote(secret, safe="")):
                text = text.replace(written, "***")
        return text


class HideToken(logging.Filter):
    """urllib3 logs the path of every request at level DEBUG, and with ?token= that path holds the token."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(arg.partition("?token=")[0] if isinstance(arg, str) else arg for arg in record.args)
        return True


def checked_url(url: str) -> str:
    """The server's address without a trailing slash; InputError when it is none, or holds credentials or a query."""
    try:
        parts = urlsplit(url)
    except ValueError:  # half of an IPv6 address
        raise InputError("the url of TDengine is none: give it as http://localhost:6041") from None
    try:
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if "@" in url or parts.query or parts.fragment:
        raise InputError("the url of TDengine holds a user, password, token or query: give only http://host:port there and "
                         "the credentials in TDENGINE_USER and TDENGINE_PASSWORD, or TDENGINE_TOKEN")
    if not valid or any(character.isspace() for character in url):
        raise InputError(f"the url of TDengine is {url!r}: give it as http://localhost:6041")
    return url.rstrip("/")


class Client:
    """One keep-alive session of one thread.

    `stop` ends it between two pieces of an answer and during pauses; `sleep` may replace the pauses (for tests).
    """

    def __init__(self, transport: Transport, credentials: Credentials, stop: threading.Event | None = None, worker: int = 0,
                 sleep: Callable[[float], object] | None = None):
        self.transport, self.credentials = transport, credentials
        self.stop = stop or threading.Event()
        self.sleep = sleep or self.stop.wait
        self.random = np.random.default_rng([transport.seed, worker])
        self.dialect = "3.x"
        self.session = requests.Session()
        # neither a proxy nor ~/.netrc of the environment may take over a local call and its Authorization header
        self.session.trust_env = False
        self.session.headers.update({"Accept-Encoding": "gzip" if transport.accept_gzip else "identity",
                                     "Content-Type": "text/plain; charset=utf-8"})
        self.query = ""
        if credentials.token and transport.token_in_url:
            self.query = "?token=" + quote(credentials.token, safe="")
            logger = logging.getLogger("urllib3.connectionpool")
            if not any(isinstance(known, HideToken) for known in logger.filters):
                logger.addFilter(HideToken())
        else:
            self.session.headers["Authorization"] = credentials.header()

    def close(self) -> None:
        self.session.close()

    def detect(self) -> str:
        """The server's dialect, "2.x" or "3.x", by the shape of an answer that both give to everybody."""
        self.dialect = "3.x"
        self.dialect = "2.x" if "status" in self.answer("select server_version()") else "3.x"
        return self.dialect

    def rows(self, sql: str, some: bool = False) -> list[list]:
        """What `sql` selects. With `some`, there are rows, so that an empty answer is one that broke off."""
        return self.answer(sql, some)["data"]

    def answer(self, sql: str, some: bool = False) -> dict:
        """The whole answer; asked again, with growing pauses, as often as the transport allows."""
        problem = ""
        for attempt in range(self.transport.retries + 1):
            if attempt:
                self.pause(attempt)
            if self.stop.is_set():
                raise Stopped
            try:
                answer = self.parse(*self.post(sql))
                if answer["data"] or not some:
                    return answer
                problem = "it sent no row where COUNT(*) counts some"
            except Again as reason:
                problem = str(reason)
        raise Unreachable(f"TDengine at {self.transport.url} failed {self.transport.retries + 1} times, at last because "
                         f"{problem}: see that it runs and start the fetch again, it goes on where it stopped")

    def pause(self, attempt: int) -> None:
        longest = min(self.transport.backoff_cap_s, self.transport.backoff_s * 2 ** (attempt - 1))
        self.sleep(longest * (0.5 + 0.5 * self.random.random()))

    def post(self, sql: str) -> tuple[int, bytes]:
        """Status and body of one request; Again when the connection, the time or the body ran out."""
        limits, began = self.transport, time.monotonic()
        # 2.x gives numbers for times only under /rest/sqlt, and refuses any query string
        url = f"{limits.url}/rest/{'sqlt' if self.dialect == '2.x' else 'sql'}{self.query}"
        timeout, body = (limits.connect_timeout_s, min(limits.read_timeout_s, limits.deadline_s)), bytearray()
        try:
            with self.session.post(url, data=sql.encode(), stream=True, allow_redirects=False, timeout=timeout) as response:
                # read1 returns what has arrived, so that the clock is looked at between two packets
                while piece := response.raw.read1(PIECE, decode_content=True):
                    body += piece
                    if self.stop.is_set() or len(body) > LONGEST_ANSWER or time.monotonic() - began > limits.deadline_s:
                        break
                else:
                    return response.status_code, bytes(body)
            kind, problem = Again, f"a request took over {limits.deadline_s:g} s (deadline_s; {len(body)} bytes had come)"
            if len(body) > LONGEST_ANSWER:
                kind, problem = InputError, (f"TDengine at {limits.url} sends an answer of over {LONGEST_ANSWER >> 20} MiB: "
                                             "lower page_rows, or see what answers there")
        except requests.exceptions.SSLError:
            kind, problem = InputError, (f"TDengine at {limits.url} shows no certificate that this machine trusts: correct "
                                         "the url, or the server's certificate")
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout, urllib3.exceptions.HTTPError) as error:
            kind, problem = Again, self.name_failure(error, len(body))
        except requests.exceptions.RequestException as error:
            kind, problem = InputError, f"TDengine at {limits.url} cannot be asked ({type(error).__name__}): correct the url"
        # raised out here, since the errors caught hold the URL, and with it perhaps the token, in their traceback
        raise Stopped if self.stop.is_set() else kind(problem)

    def name_failure(self, error: Exception, received: int) -> str:
        limits = self.transport
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return f"no connection came about within {limits.connect_timeout_s:g} s (connect_timeout_s)"
        if isinstance(error, (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError)):
            return f"nothing came for {limits.read_timeout_s:g} s (read_timeout_s) after {received} bytes"
        if received:
            return f"the connection broke off after {received} bytes"
        return "the connection was refused or broke off before an answer"

    def parse(self, status: int, body: bytes) -> dict:
        """The answer as a dict with `data`. Again for what a later request may get; InputError for what it will not."""
        url = self.transport.url
        if status in RETRIED_STATUS:
            raise Again(f"it answered with status {status}{self.quoted(body)}")
        if 300 <= status < 400:
            raise InputError(f"TDengine at {url} redirects (status {status}), which the credentials do not follow: give the "
                             "address it really has")
        if status == 404:
            raise InputError(f"{url} has no TDengine REST interface (status 404): correct the url")
        # BINARY columns may hold any byte: latin-1 keeps each as it is, where response.json() would put U+FFFD
        text = body.decode("latin-1").lstrip()
        if not text and status == 200:
            raise Again("it sent an empty answer")
        try:
            answer = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            answer = None
        if answer is None and status == 200 and text.startswith("{"):
            raise Again(f"its answer of {len(body)} bytes is cut off")
        if not isinstance(answer, dict):
            self.refuse_status(status)
            raise InputError(f"{url} answers with something else than TDengine does{self.quoted(body)}: correct the url, or "
                             "leave out the proxy in between")
        code = answer.get("code", 0)
        if code != 0 or answer.get("status") == "error":
            description = answer.get("desc")
            self.refuse(code if isinstance(code, int) else -1, description if isinstance(description, str) else "")
        self.refuse_status(status)
        if not isinstance(answer.get("data"), list) or not all(isinstance(row, list) for row in answer["data"]):
            raise InputError(f"TDengine at {url} answers without rows in `data`{self.quoted(body)}: see that no proxy "
                             "changes answers")
        return answer

    def refuse_status(self, status: int) -> None:
        if status == 401:
            self.refuse(4357, "no valid authorization")
        if status != 200:
            raise InputError(f"TDengine at {self.transport.url} refused a request with status {status}: see its log")

    def refuse(self, code: int, description: str) -> None:
        """Raises what an error code means; unknown codes stop too, since asking again repeats most of them."""
        said = f"(code {code}{self.quoted(description.encode('latin-1', 'replace'))})"
        url = self.transport.url
        if code in RETRIED_CODES:
            raise Again(f"it cannot reach its database engine {said}")
        if code in AUTHENTICATION:
            raise InputError(f"TDengine at {url} does not accept the credentials {said}: correct TDENGINE_USER and "
                             "TDENGINE_PASSWORD, or TDENGINE_TOKEN")
        if code in TABLE_MISSING or "table does not exist" in description.lower():
            raise TableMissing(f"TDengine at {url} has no such table {said}")
        if code in NO_DATABASE:
            raise InputError(f"TDengine at {url} has no such database {said}: correct `database`")
        if code in SYNTAX:
            raise InputError(f"TDengine at {url} does not understand the request {said}: correct the names in `columns`")
        raise InputError(f"TDengine at {url} refused the request {said}: see its log")

    def quoted(self, body: bytes) -> str:
        """The beginning of an answer as part of a sentence, without credentials or control characters."""
        text = self.credentials.remove_from(body[:2000].decode("utf-8", "replace"))
        text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
        return f", {text[:120]!r}" if text else ""
