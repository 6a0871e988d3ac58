"""pytest tests/test_fetch.py - recordings from archives arrive whole and unaltered, or not at all and with a sentence."""

import http.server
import json
import shutil
import tarfile
import threading
import zipfile
from functools import partial

import h5py
import numpy as np
import pytest

from thermal_action.files import file_sha256
from thermal_action.raw import PayloadFormat, ordered_frames
from tiny import write_archive


def fetched_frames(project, name):
    folder = project.folder / "data/raw/frames" / name
    payload = PayloadFormat(**json.loads((folder / "complete.json").read_text())["payload"])
    raw = [frame for frame, _ in ordered_frames(folder)]
    return np.stack([payload.decode(frame.frame_data).reshape(frame.height, frame.width) for frame in raw]), [f.ts for f in raw]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def locate(project, path, sha256=None):
    project.set({"fetch": {"archive": {"location": str(path), "sha256": sha256}}})


def zipped(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return target


def tarred(folder, target):
    with tarfile.open(target, "w:gz") as archive:
        archive.add(folder, arcname="thermal")
    return target


@pytest.fixture
def archive(tiny_project, tmp_path):
    return tmp_path / "archive"


def test_a_folder_arrives_bit_by_bit(tiny_project, archive):
    tiny_project.run("fetch")
    for path in sorted((archive / "frames").glob("*.h5")):
        with h5py.File(path) as file:
            frames, times = fetched_frames(tiny_project, path.stem)
            assert np.array_equal(frames, file["frames"][:]) and times == file["timestamps"][:].tolist()
    query = json.loads((tiny_project.folder / "data/raw/query.json").read_text())
    assert query["frames"] == 480 and set(query["received"]) == {"D0_S0", "D0_S1", "D1_S0", "D1_S1"}
    assert not [path for path in (tiny_project.folder / ".scratch").iterdir() if path.name.startswith("fetch-")]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_file_is_the_same_as_its_folder(tiny_project, archive, tmp_path, pack):
    tiny_project.run("fetch")
    before = {path.name: path.read_bytes() for path in (tiny_project.folder / "data/raw/frames").rglob("*")if path.is_file()}
    packed = pack(archive, tmp_path / ("a.zip" if pack is zipped else "a.tar.gz"))
    locate(tiny_project, packed, file_sha256(packed))
    tiny_project.run("fetch")
    assert before == {p.name: p.read_bytes() for p in (tiny_project.folder / "data/raw/frames").rglob("*") if p.is_file()}


def test_a_url_needs_its_checksum_and_is_downloaded_once(tiny_project, archive, tmp_path):
    (tmp_path / "www").mkdir()
    packed = zipped(archive, tmp_path / "www/a.zip")
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "www")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.zip"
    try:
        locate(tiny_project, url)
        assert "fetch.archive.sha256" in tiny_project.refusal("fetch") and not requests
        locate(tiny_project, url, "0" * 64)
        assert file_sha256(packed) in tiny_project.refusal("fetch")
        assert not list((tiny_project.folder / ".scratch").rglob("*.zip"))
        locate(tiny_project, url, file_sha256(packed))
        requests.clear()
        tiny_project.run("fetch")
        shutil.rmtree(tiny_project.folder / "data")
        tiny_project.run("fetch")
        assert requests == ["/a.zip"] and len(list((tiny_project.folder / "data/raw/keyframes").iterdir())) == 4
        locate(tiny_project, url.replace("a.zip", "b.zip"), file_sha256(packed))
        assert "b.zip cannot be downloaded" in tiny_project.refusal("fetch")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_points_outside_is_refused(tiny_project, archive, tmp_path, kind):
    packed = tmp_path / f"evil.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as file:
            file.writestr("../outside.txt", "x")
    else:
        (tmp_path / "x").write_text("x")
        with tarfile.open(packed, "w") as file:
            file.add(tmp_path / "x", arcname="../outside.txt")
    locate(tiny_project, packed)
    assert "outside" in tiny_project.refusal("fetch")
    assert not list(tmp_path.rglob("outside.txt"))


def test_broken_archives_are_refused_by_name(tiny_project, archive, tmp_path):
    locate(tiny_project, tmp_path / "nowhere")
    assert "nowhere does not exist" in tiny_project.refusal("fetch")
    (tmp_path / "empty").mkdir()
    locate(tiny_project, tmp_path / "empty")
    assert "has no frames" in tiny_project.refusal("fetch")
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    locate(tiny_project, tmp_path / "a.zip")
    assert "a.zip cannot be unpacked" in tiny_project.refusal("fetch")
    locate(tiny_project, archive)
    path = archive / "frames/D0_S0.h5"
    path.write_bytes(path.read_bytes()[:5000])
    assert "D0_S0.h5 is no whole HDF5 file" in tiny_project.refusal("fetch")
    path.unlink()
    assert "D0_S0.h5 is missing" in tiny_project.refusal("fetch")
    assert not (tiny_project.folder / "data/raw").exists()


def test_a_person_with_an_unknown_action_stops_the_fetch(tiny_project, archive):
    path = archive / "keyframes/D1_S0_annotation.json"
    path.write_text(path.read_text().replace('"walking"', '"moonwalking"').replace('"lying"', '"moonwalking"'))
    sentence = tiny_project.refusal("fetch")
    assert "D1_S0_annotation.json, record" in sentence and "'moonwalking'" in sentence


def test_the_given_split_comes_along(tiny_project, archive):
    ids = [f"{json.loads(line)['data_id']}_{json.loads(line)['data_time']}" for path in sorted((archive / "keyframes").iterdir())
           for line in path.read_text().splitlines()]
    (archive / "annotations").mkdir()
    for side, own in (("train", ids[:40]), ("val", ids[40:])):
        (archive / f"annotations/{side}.json").write_text(json.dumps({"images": [{"id": name} for name in own]}))
    tiny_project.set({"coco": {"split_by": "given"}})
    tiny_project.run("fetch", "hdf5", "coco")
    val = json.loads((tiny_project.folder / "data/annotations/val.json").read_text())
    assert [image["id"] for image in val["images"]] == ids[40:]


def test_one_recording_more_is_one_recording_read_and_the_same_bytes(tiny_project, archive, tmp_path):
    # a hundred recordings would be copied again for the sake of one; apart: code that a test has loaded counts as well
    raw, aside = tiny_project.folder / "data/raw", tmp_path / "aside"
    aside.mkdir()
    files = [archive / "frames/D0_S1.h5", archive / "keyframes/D0_S1_annotation.json"]
    for path in files:
        path.rename(aside / path.name)
    assert "3 recordings (0 as they were)" in tiny_project.run("fetch", apart=True).stdout
    for path in files:
        (aside / path.name).rename(path)
    shutil.rmtree(raw)  # as DVC does before it runs a stage
    assert "4 recordings (3 as they were)" in tiny_project.run("fetch", apart=True).stdout
    incremental = contents(raw)
    shutil.rmtree(tiny_project.folder / ".scratch/fetch")
    assert "4 recordings (0 as they were)" in tiny_project.run("fetch", apart=True).stdout
    assert incremental == contents(raw)
    with h5py.File(files[0], "r+") as file:
        file["frames"][0] += 1
    assert "4 recordings (3 as they were)" in tiny_project.run("fetch", apart=True).stdout
    assert [name for name, content in contents(raw).items() if incremental[name] != content and "keyframes" not in name] == [
        "frames/D0_S1/000000.jsonl", "query.json"]


def test_fetching_again_replaces_what_was_there(tiny_project, tmp_path):
    tiny_project.run("fetch")
    write_archive(tmp_path / "other", devices=1)
    locate(tiny_project, tmp_path / "other")
    tiny_project.run("fetch")
    assert {path.stem for path in (tiny_project.folder / "data/raw/keyframes").iterdir()} == {"D0_S0", "D0_S1"}
