"""Files that are either whole or not there, and JSON that is the same bytes for the same content."""

import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import parse_qsl, urlsplit

from thermal_action import InputError, shown

JSON = json.JSONEncoder(sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
# parameters of an address that let whoever reads it in: signatures, tokens, keys
SECRET = re.compile(r"sig|token|key|secret|passw|credential|auth", re.IGNORECASE)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; what was written there takes its place at the end, or vanishes on an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent.glob(f".{glob.escape(path.name)}.*.part"))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(parts: Iterable[Path], *, alone: bool = False) -> None:
    """Removes temporary files whose process was killed; all of them where the caller is alone, whoever has that number now."""
    for part in parts:
        process = part.name.split(".")[-2]
        if alone or process.isdecimal() and not is_running(int(process)):
            part.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's
    return True


def lock(path: Path, refusal: str) -> TextIO:
    """Locks a file until it is closed, or the process ends, however it does. InputError(refusal) if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InputError(refusal) from None
    return file


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """The same for a folder: a new, empty one is filled and takes the place of the old one as a whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        move_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def move_folder(source: Path, target: Path) -> None:
    """Renames a complete folder onto `target`; an old one there is set aside first and removed last."""
    aside = target.with_name(f".{target.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        os.replace(target, aside)
    os.replace(source, target)
    shutil.rmtree(aside, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Sorted keys, two spaces, a newline at the end; ValueError for NaN or infinity."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(JSON.iterencode(value))
        file.write("\n")


def write_json_lists(path: str | Path, document: dict[str, Any]) -> None:
    """What write_json writes of a dict, but its lists may be iterators, of which it holds an item at a time."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for number, key in enumerate(sorted(document)):
            file.write(f"{',' if number else '{'}\n  {JSON.encode(key)}: ")
            value = document[key]
            file.writelines(encode_items(value) if isinstance(value, Iterator) else [JSON.encode(value).replace("\n", "\n  ")])
        file.write("\n}\n")


def encode_items(items: Iterator[Any]) -> Iterator[str]:
    before = "["
    for item in items:
        yield f"{before}\n    " + JSON.encode(item).replace("\n", "\n    ")
        before = ","
    yield "[]" if before == "[" else "\n  ]"


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """InputError when the file is missing or is not JSON."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: run the stage that writes it (`dvc repro`), or `dvc pull`") from None
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, thousands of brackets
        raise InputError(f"{path} is not JSON ({error}): delete it and run the stage that writes it again") from None


def fingerprint(value: Any) -> str:
    """16 hex digits that stand for a JSON-able value."""
    canonical = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def code_sha256(script: str | Path) -> dict[str, str]:
    """Of every module loaded so far that lies beside `script` or in folders there, by its relative path."""
    folder = Path(script).resolve().parent
    modules = {Path(module.__file__).resolve() for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
    return {str(file.relative_to(folder)): file_sha256(file) for file in sorted(modules) if file.is_relative_to(folder)}


def file_sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_md5(path: str | Path) -> str:
    """For those who publish no other: it tells a damaged download, not an attack."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def check_sum(path: str | Path, checksum: str | None, *, parameter: str, location: str | None = None) -> str:
    """The SHA-256 of a file. InputError if it has another checksum than `checksum`; None accepts any.

    checksum: 64 hex digits of SHA-256, or, as Zenodo lists them, md5: and 32. For the sentence: parameter is its name in
    params.yaml, location where the file came from, if not from `path`.
    """
    sha256 = file_sha256(path)
    kind, _, expected = (checksum or sha256).rpartition(":")
    actual = file_md5(path) if kind == "md5" else sha256
    if expected != actual:
        page = " and is a web page" if is_web_page(path) else ""
        raise InputError(f"{location or path} has the {kind or 'sha256'} {actual}{page}, {parameter} says {expected}: get the"
                         " file again or correct the checksum")
    return sha256


def is_web_page(path: str | Path) -> bool:
    """Servers send one in place of a file: a login, a question whether to go on, an error."""
    with open(path, "rb") as file:
        return file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def is_url(location: str) -> bool:
    return location.lower().startswith(("http://", "https://"))


def check_url(url: str, checksum: str | None, *, parameter: str, key: str = "sha256") -> None:
    """InputError for an address that is none, that holds a secret, or that comes without a checksum.

    parameter: name of the address in params.yaml, which Git, dvc.lock and query.json keep for everybody to read; key: that of the
    checksum beside it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # half of an IPv6 address
        raise InputError(f"{parameter} begins as a URL, but is none: correct it") from None
    secret = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if SECRET.search(name)]
    if "@" in parts.netloc or secret:
        what = shown(secret[0]) if secret else "a user or password"
        raise InputError(f"{parameter} holds {what}, which Git and dvc.lock would keep for everybody to read: put user and "
                         "password into ~/.netrc, or download the file and give its path")
    if checksum is None:
        raise InputError(f"{parameter} {url} is a URL: give its checksum in {parameter.rpartition('.')[0]}.{key}")


def download(url: str, path: Path, checksum: str, *, parameter: str) -> Path:
    """Brings the file behind `url` to `path`, unless it is there already; a broken or another file leaves nothing.

    checksum, parameter: as of check_sum. InputError for a server that does not give the file, or gives another.
    """
    if path.exists():
        return path
    # of the stages that all read this module, only who downloads waits for these
    import requests
    from tqdm import tqdm

    try:
        with replacing(path) as temporary, requests.get(url, stream=True, timeout=(5, 60)) as response:
            response.raise_for_status()
            size = response.headers.get("Content-Length", "")
            size = int(size) if size.isdecimal() else None
            bar = tqdm(total=size, desc=Path(urlsplit(url).path).name, unit="B", unit_scale=True, leave=False, disable=None)
            with bar, open(temporary, "wb") as file:
                for block in response.iter_content(1 << 20):
                    bar.update(file.write(block))
            check_sum(temporary, checksum, parameter=parameter, location=url)
    except requests.RequestException as error:
        answer = f"HTTP {error.response.status_code}" if error.response is not None else type(error).__name__
        raise InputError(f"{url} cannot be downloaded ({answer}): check the address, then run the stage again") from None
    return path
