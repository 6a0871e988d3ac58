"""What a parameter names that says where data are: a folder, an archive file or the http(s) URL of one, made a folder."""

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from thermal_action import InputError, shown
from thermal_action.files import check_sum, check_url, download, fingerprint, is_url, replacing_folder

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
# what unpacking raises; RuntimeError: encrypted, or compressed in a way unknown here; ValueError: names that no file can have
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)


def open_location(location: str, checksum: str | None, *, section: str, key: str = "sha256", scratch: Path) -> Path:
    """The folder of that name, or one below `scratch` into which an archive was unpacked, once; one behind a URL is downloaded
    before, once.

    checksum: of the archive file, see `files.check_sum`; required for a URL. For the sentences of InputErrors: section is where
    params.yaml has `location` and, under `key`, the checksum.
    """
    parameter = f"{section}.location"
    if is_url(location):
        check_url(location, checksum, parameter=parameter, key=key)
        check_suffix(urlsplit(location).path, parameter)
        kept = scratch / f"download-{fingerprint([location, checksum])}" / Path(urlsplit(location).path).name
        location = str(download(location, kept, checksum, parameter=f"{section}.{key}"))
    path = Path(location)
    if path.is_dir():
        return path
    if not path.is_file():
        raise InputError(f"{parameter} {location} does not exist: give a folder, an archive file or a URL")
    check_suffix(location, parameter)
    sha256 = check_sum(path, checksum, parameter=f"{section}.{key}")
    folder = scratch / f"archive-{sha256[:16]}"
    if not folder.exists():
        unpack(path, folder)
    return folder


def check_suffix(location: str, parameter: str) -> None:
    if not location.endswith(ARCHIVE_SUFFIXES):
        raise InputError(f"{parameter} {location} is neither a folder nor one of {', '.join(ARCHIVE_SUFFIXES)}")


def unpack(path: Path, folder: Path) -> None:
    """Unpacks files inside `folder` only; a member that points elsewhere, is no file or does not fit on the disk is refused."""
    opener: Callable = zipfile.ZipFile if path.suffix == ".zip" else tarfile.open
    try:
        with replacing_folder(folder) as temporary, opener(path) as archive:
            left = shutil.disk_usage(temporary).free
            for member in archive.infolist() if isinstance(archive, zipfile.ZipFile) else archive:
                left -= member.file_size if isinstance(member, zipfile.ZipInfo) else member.size
                check_member(path, member, left)
                if isinstance(member, zipfile.ZipInfo):
                    archive.extract(member, temporary)
                else:
                    archive.extract(member, temporary, filter="data")
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path} cannot be unpacked safely: {error}") from None


def check_member(path: Path, member: zipfile.ZipInfo | tarfile.TarInfo, left: int) -> None:
    """left: bytes of the disk with this member unpacked."""
    name = member.filename if isinstance(member, zipfile.ZipInfo) else member.name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{path} cannot be unpacked safely: its member {shown(name)} points outside of the archive")
    # symbolic links, too: with them the filter of Python below 3.11.13 lets members out (CVE-2025-4517)
    if isinstance(member, tarfile.TarInfo) and not (member.isfile() or member.isdir() or member.islnk()):
        raise InputError(f"{path} cannot be unpacked safely: its member {shown(name)} is neither a file nor a folder")
    if left < 0:
        raise InputError(f"{path} holds more than the disk has room for, at the latest with its member {shown(name)}: make room")
