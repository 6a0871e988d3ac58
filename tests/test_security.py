"""pytest tests/test_security.py - data, models and addresses from others neither reach other files nor give secrets away.

Elsewhere: models that could run code (test_training.py, test_initial.py), names that could carry SQL and credentials in answers
and logs (test_tdengine.py, test_tdengine_answers.py), recordings named as paths (test_keyframes.py).
"""

import io
import json
import tarfile
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thermal_action import InputError
from thermal_action.files import check_url, is_url
from thermal_action.raw import read_query
from thermal_action.raw_store import RawStore
from thermal_action.recordings import Recording
from thermal_action.sources.archive import ArchiveSource
from thermal_action.sources.locations import unpack
from thermal_action.sources.tdengine.rest import checked_url
from thermal_action.training.initial import Init, check_init
from tiny import SEVEN_ACTIONS, write_archive

# archives


def pack(path: Path, names: list[str], kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 1) -> Path:
    """A .zip or .tar of members with these names; in a .tar of any kind, and of a size that they claim."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), "x")
    else:
        with tarfile.open(path, "w") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.type, member.linkname, member.size = kind, link, size if kind == tarfile.REGTYPE else 0
                archive.fileobj.write(member.tobuf()) if size > 1 else archive.addfile(member, io.BytesIO(b"x" * size))
    return path


PARTS = st.lists(st.sampled_from(["..", ".", "a", "b", "", "~", "C:", "a\\..\\..\\b", "é", "x" * 300]), min_size=1, max_size=4)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(st.lists(PARTS.map("/".join).filter(bool), min_size=1, max_size=3), st.sampled_from([".zip", ".tar"]))
@example(["/tmp/evil"], ".tar")
@example(["/tmp/evil"], ".zip")
@example(["a", "a/b"], ".zip")
def test_no_name_of_a_member_leads_out_of_the_folder(names, suffix):
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "deep" / "folder"
        packed = pack(Path(top) / f"a{suffix}", names)
        try:
            unpack(packed, folder)
        except InputError as refused:
            assert str(packed) in str(refused)
            assert not folder.exists()
        assert {path.name for path in Path(top).iterdir()} <= {"deep", packed.name}
        assert {path.name for path in (Path(top) / "deep").iterdir()} <= {"folder"}


@pytest.mark.parametrize("kind, link", [
    (tarfile.SYMTYPE, "/etc/passwd"), (tarfile.SYMTYPE, "../../outside"), (tarfile.SYMTYPE, "b"),
    (tarfile.LNKTYPE, "../../outside"), (tarfile.LNKTYPE, "/etc/passwd"),
    (tarfile.CHRTYPE, ""), (tarfile.BLKTYPE, ""), (tarfile.FIFOTYPE, ""),
])
def test_links_and_devices_are_refused_by_name(tmp_path, kind, link):
    with pytest.raises(InputError, match="a.tar cannot be unpacked safely"):
        unpack(pack(tmp_path / "a.tar", ["frames"], kind, link), tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_one_file_under_two_names_is_two_files(tmp_path):
    # as tar writes what DVC linked out of its cache
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a", "a")
        archive.add(tmp_path / "b", "b")
        assert archive.getmember("b").islnk()
    unpack(tmp_path / "a.tar", tmp_path / "folder")
    assert [(tmp_path / "folder" / name).read_text() for name in "ab"] == ["x", "x"]


def test_an_archive_that_would_fill_the_disk_is_refused_before(tmp_path):
    packed = pack(tmp_path / "a.tar", ["bomb"], size=1 << 60)
    with pytest.raises(InputError, match="more than the disk has room for.* 'bomb'"):
        unpack(packed, tmp_path / "folder")


@pytest.mark.parametrize("spoil", [
    lambda whole: whole[: len(whole) // 2], lambda whole: whole[:-30] + b"x" * 30,
    lambda whole: whole[:60] + bytes(255 - byte for byte in whole[60:90]) + whole[90:],
])
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar"])
def test_a_torn_archive_is_refused_or_whole(tmp_path, suffix, spoil):
    content = " ".join(map(str, np.random.default_rng(0).integers(0, 1000, 3000))).encode()
    packed = tmp_path / f"a{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a", content)
    else:
        with tarfile.open(packed, "w:" + suffix.removeprefix(".tar").removeprefix(".")) as archive:
            member = tarfile.TarInfo("a")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    packed.write_bytes(spoil(packed.read_bytes()))
    try:
        unpack(packed, tmp_path / "folder")
    except InputError as refused:
        assert "cannot be unpacked safely" in str(refused)
    else:
        # .tar has a checksum of its headers only (`sha256` tells), and of what follows its end nothing is read
        assert suffix == ".tar" or (tmp_path / "folder" / "a").read_bytes() == content


# HDF5


def refusal(archive: Path, match: str) -> str:
    """The sentence with which a fetch from a folder is refused."""
    source = ArchiveSource(location=str(archive), sha256=None, classes=SEVEN_ACTIONS)
    with RawStore(archive / "raw", {}, 50, archive / "scratch") as store, pytest.raises(InputError, match=match) as refused:
        source.fetch(store, lambda frames: None)
    return str(refused.value)


def replace(file: h5py.File, name: str, data) -> None:
    del file[name]
    file[name] = data


@pytest.mark.parametrize("spoil, says", [
    (lambda file: replace(file, "frames", h5py.ExternalLink("/tmp/other.h5", "frames")), "frames"),
    (lambda file: replace(file, "timestamps", h5py.SoftLink("/frame_seqs")), "timestamps is no dataset of numbers in this file"),
    (lambda file: replace(file, "timestamps", np.array([b"pickle"] * 120, dtype=object)), "timestamps is no dataset of numbers"),
    (lambda file: replace(file, "frames", np.full((120, 16, 16), b"21.5")), "frames is no dataset of numbers"),
    (lambda file: replace(file, "timestamps", np.full(120, 1.5)), "timestamps is no dataset of numbers"),
    (lambda file: replace(file, "frame_seqs", np.arange(7)), "of the same N"),
    (lambda file: (file.pop("frames"), file.create_group("frames")), "frames is no dataset"),
    (lambda file: replace(file, "frames", np.zeros((120, 0, 16))), "of the same N"),
    (lambda file: (file.pop("frames"), file.create_dataset("frames", (120, 16, 16), "<f4", external=[("secret", 0, 122_880)])),
     "frames is no dataset of numbers in this file"),
], ids=range(9))
def test_recordings_hold_numbers_of_their_own(tmp_path, monkeypatch, spoil, says):
    monkeypatch.chdir(tmp_path)  # h5py would find the other file here
    (tmp_path / "secret").write_bytes(bytes(122_880))
    archive = write_archive(tmp_path / "archive", devices=1, sessions=1)
    with h5py.File(archive / "frames/D0_S0.h5", "r+") as file:
        spoil(file)
    assert "D0_S0.h5" in refusal(archive, match=says)


def test_a_recording_of_objects_is_no_recording(tmp_path):
    with h5py.File(tmp_path / "R1.h5", "w") as file:
        file["frames"], file["timestamps"] = np.full((3, 2, 2), b"21.5"), np.arange(3)
    with pytest.raises(InputError, match="R1.h5 has no dataset 'frames' of numbers"):
        Recording(tmp_path / "R1.h5").timestamps  # noqa: B018


def test_a_torn_block_of_frames_is_named(tmp_path):
    archive = write_archive(tmp_path / "archive", devices=1, sessions=1)
    path = archive / "frames/D0_S0.h5"
    with h5py.File(path, "r+") as file:
        frames = file["frames"][:]
        del file["frames"]
        file.create_dataset("frames", data=frames, chunks=(60, 16, 16), compression="gzip")
        place = file["frames"].id.get_chunk_info(1).byte_offset
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"torn" * 8)
    refusal(archive, match="D0_S0.h5 cannot be read behind frame")


# names in files that others wrote


@pytest.mark.parametrize("record", [
    {"asked": {"fetch": {}}, "received": {"../../evil": {}}}, {"asked": {"fetch": {}}, "received": {"/tmp/evil": {}}},
    {"asked": {}, "received": {}}, {"asked": {"fetch": {}}, "received": 7}, [], "text",
], ids=range(6))
def test_a_record_of_a_fetch_names_recordings_and_no_paths(tmp_path, record):
    (tmp_path / "query.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="query.json is no record of a fetch"):
        read_query(tmp_path, {})


@pytest.mark.parametrize("images", [{}, {"images": 7}, {"images": [7]}, {"images": [{}]}, {"images": [{"id": [1]}]}, [], None])
def test_a_given_split_without_ids_is_named(tmp_path, images):
    archive = write_archive(tmp_path / "archive", devices=1, sessions=1)
    (archive / "annotations").mkdir()
    for side in ("train", "val"):
        (archive / f"annotations/{side}.json").write_text(json.dumps(images))
    refusal(archive, match="train.json has no `images`")


# addresses


@pytest.mark.parametrize("secret", [
    "https://me:hunter2@host/a.zip", "https://hunter2@host/a.zip", "https://host/a.zip?X-Amz-Signature=hunter2",
    "https://host/a.zip?a=1&sig=hunter2", "https://host/a.zip?access_token=hunter2", "HTTPS://me:hunter2@host/a.zip",
    "https://me:hunter2@[host/a.zip",
])
def test_an_address_with_a_secret_is_refused_without_repeating_it(tmp_path, secret):
    for refuse in (lambda: ArchiveSource(location=secret, sha256="0" * 64, classes=[], scratch=tmp_path),
                   lambda: check_init(Init(source="torchvision", location=secret, sha256="0" * 64, keep=0.0))):
        with pytest.raises(InputError, match="location (holds|begins)") as refused:
            refuse()
        assert "hunter2" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_an_address_whose_query_is_no_secret_is_taken():
    check_url("https://zenodo.org/records/1/files/a.zip?download=1", "0" * 64, parameter="fetch.archive.location")
    assert is_url("https://host/a.zip") and not is_url("a.zip") and not is_url("/data/http://x.zip")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/..", "http://127.0.0.1:9/", "http://127.0.0.1:9/a.exe", "http://127.0.0.1:9/x/../.."])
def test_an_address_of_no_archive_is_refused_before_it_names_a_file(tmp_path, url):
    with pytest.raises(InputError, match="neither a folder nor one of"):
        ArchiveSource(location=url, sha256="0" * 64, classes=[], scratch=tmp_path)
    assert not list(tmp_path.iterdir())


@given(st.text("htps:/[]@?#%.1a\n é\ud800", max_size=20).map("http://".__add__))
def test_any_address_is_taken_or_refused(url):
    for check in (checked_url, lambda url: check_url(url, "0" * 64, parameter="fetch.archive.location")):
        try:
            check(url)
        except InputError as refused:
            assert "\n" not in str(refused)
