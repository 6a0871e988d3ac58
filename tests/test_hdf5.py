"""pytest tests/test_hdf5.py - every frame that was fetched stands in the file, once, repaired and counted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest

from thermal_action.files import read_json
from thermal_action.raw import PayloadFormat, RawFrame
from thermal_action.raw_store import RawStore


def fetched(project, frames, payload):
    """A complete fetch of one recording with these (ts, seq, payload text) rows of 16x16 pixels."""
    query = {"fetch": {key: value for key, value in project.params["fetch"].items() if key not in ("simulator", "tdengine")}}
    store = RawStore(project.folder / "data/raw", query, 50, project.folder / ".scratch")
    recording = store.recording("R1")
    for ts, sequence, text in frames:
        recording.append(RawFrame(ts, sequence, 16, 16, text))
    recording.finish(payload)
    (store.folder / "keyframes").mkdir()
    (store.folder / "keyframes/R1.jsonl").write_text(json.dumps({"mac_address": "02:00:00:00:00:01"}) + "\n")
    store.publish()


def picture(index):
    return np.round(np.random.default_rng(index).normal(20, 3, (16, 16)), 1).astype(np.float32)


def test_frames_are_ordered_deduplicated_and_repaired(tiny_project):
    payload = PayloadFormat("base64", "zlib", "float32")
    damaged = picture(3).ravel()[:100]  # the tail of the packet was lost
    cold = picture(5).copy()
    cold[-1] = -273.2
    rows = {0: picture(0), 2: picture(2), 1: picture(1), 3: damaged, 4: picture(4), 5: cold}
    texts = [(1000 + 170 * index, index, payload.encode(pixels)) for index, pixels in rows.items()]
    fetched(tiny_project, [*texts, texts[2]], payload)
    tiny_project.run("hdf5")
    with h5py.File(tiny_project.folder / "data/frames/R1.h5") as file:
        assert file["timestamps"][:].tolist() == [1000 + 170 * index for index in range(6)]
        assert file["frame_seqs"][:].tolist() == list(range(6))
        assert file["lost_pixels"][:].tolist() == [0, 0, 0, 156, 0, 16]
        assert np.array_equal(file["frames"][2], picture(2))
        assert np.array_equal(file["frames"][3].ravel()[100:], picture(2).ravel()[100:])
        assert np.array_equal(file["frames"][5][-1], picture(4)[-1])
    info = json.loads((tiny_project.folder / "data/frames/sensor_info.json").read_text())["R1"]
    assert (info["total_frames"], info["corrupted_frames"], info["lost_pixels"], info["duplicate_frames"]) == (6, 2, 172, 1)


def test_packets_of_a_cut_frame_are_put_back_and_counted(tiny_project):
    payload = PayloadFormat("base64", "zlib", "float32")
    before = picture(0)
    after = (before + 0.1).ravel()
    closed_up = np.concatenate([after[100:], np.full(100, -273.2, np.float32)])  # the first packet was lost
    tiny_project.set({"hdf5": {"packet_px": 100}})
    fetched(tiny_project, [(1000, 0, payload.encode(before)), (1170, 1, payload.encode(closed_up))], payload)
    assert "packets put back in place in 1" in tiny_project.run("hdf5").stdout
    with h5py.File(tiny_project.folder / "data/frames/R1.h5") as file:
        assert np.array_equal(file["frames"][1].ravel(), np.concatenate([before.ravel()[:100], after[100:]]))
        assert file["lost_pixels"][:].tolist() == [0, 100]
    assert json.loads((tiny_project.folder / "data/frames/sensor_info.json").read_text())["R1"]["moved_frames"] == 1


def test_a_frame_that_cannot_be_decoded_is_named_and_leaves_nothing(tiny_project):
    payload = PayloadFormat("base64", "zlib", "float32")
    fetched(tiny_project, [(1000, 0, payload.encode(picture(0))), (1170, 1, "AAAA")], payload)
    assert "R1, frame of 1170" in tiny_project.refusal("hdf5")
    assert not (tiny_project.folder / "data/frames").exists()


def test_an_incomplete_or_other_fetch_is_refused_with_the_command_to_type(tiny_project):
    assert "dvc repro fetch" in tiny_project.refusal("hdf5")
    tiny_project.run("fetch")
    tiny_project.set({"fetch": {"buffer_frames": 64}})
    assert "dvc repro --force --single-item fetch" in tiny_project.refusal("hdf5")


def test_parallel_processes_give_the_same_bytes(tiny_project):
    tiny_project.run("fetch", "hdf5")
    folder = tiny_project.folder / "data/frames"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    tiny_project.set({"runtime": {"processes": 2}})
    tiny_project.run("hdf5")
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_memory_is_bounded_by_a_chunk_and_not_by_the_recording(tiny_project):
    # 20,000 frames of 64 KiB are 1.3 GB decoded; the stage may use 200 MB
    code = """
import numpy as np
from thermal_action.recordings import Frames, write_recording
chunk = np.random.default_rng(0).normal(20, 3, (64, 128, 128)).astype(np.float32)
blocks = (Frames(start + np.arange(64), np.arange(64), chunk, np.zeros(64, int)) for start in range(0, 20032, 64))
write_recording("big.h5", blocks, sensor_id="R", mac_address="m", compression="lzf", level=1)
# not ru_maxrss, which begins with the parent's
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    environment = os.environ | {"PYTHONPATH": str(tiny_project.folder / "stages")}
    process = subprocess.run([sys.executable, "-c", code], cwd=tiny_project.folder, env=environment, capture_output=True,
                             text=True)
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) * 1024 < 200e6
    (tiny_project.folder / "big.h5").unlink()


def test_one_recording_more_is_one_conversion_more_and_the_same_bytes(prepared, tmp_path):
    # a hundred recordings would be converted again for the sake of one; apart: code that a test has loaded counts as well
    frames, raw = prepared.folder / "data/frames", prepared.folder / "data/raw"
    prepared.run("fetch")
    kept = raw / "frames/D0_S0"
    query = json.loads((raw / "query.json").read_text())
    fewer = {**query, "received": {name: facts for name, facts in query["received"].items() if name != kept.name}}
    (raw / "query.json").write_text(json.dumps(fewer))
    assert "hdf5: 3 recordings (0 as they were)" in prepared.run("hdf5", apart=True).stdout
    shutil.rmtree(frames)  # as DVC does before it runs a stage
    (raw / "query.json").write_text(json.dumps(query))
    assert "hdf5: 4 recordings (3 as they were)" in prepared.run("hdf5", apart=True).stdout
    incremental = {path.name: path.read_bytes() for path in frames.iterdir()}
    shutil.rmtree(prepared.folder / ".scratch")
    assert "(0 as they were)" in prepared.run("hdf5", apart=True).stdout
    assert incremental == {path.name: path.read_bytes() for path in frames.iterdir()}

    with h5py.File(frames / "D0_S0.h5", "r+") as file:  # an edit reaches what is kept, too: it is the same file
        file["frames"][0] = 0
    assert "(3 as they were)" in prepared.run("hdf5", apart=True).stdout
    assert incremental == {path.name: path.read_bytes() for path in frames.iterdir()}
    prepared.set({"hdf5": {"level": 9}})
    assert "(0 as they were)" in prepared.run("hdf5", apart=True).stdout
    assert len(list((prepared.folder / ".scratch/hdf5").iterdir())) == 8  # none of those before


@pytest.mark.slow
def test_a_dask_cluster_writes_the_same_recordings(prepared):
    # one parameter takes the work to other machines, or it would never go there
    from distributed import LocalCluster

    frames = prepared.folder / "data/frames"
    expected = {path.name: path.read_bytes() for path in frames.iterdir()}
    shutil.rmtree(frames)
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", scheduler_port=0, dashboard_address=None) as cluster:
        prepared.set({"runtime": {"dask": cluster.scheduler_address}})
        assert "hdf5: 4 recordings (0 as they were)" in prepared.run("hdf5", apart=True).stdout
        assert len(expected) == 5 and {path.name: path.read_bytes() for path in frames.iterdir()} == expected
        (prepared.folder / "data/raw/frames/D0_S0/000000.jsonl").write_text("no frame\n")
        assert "000000.jsonl, line 1 is no raw frame" in prepared.refusal("hdf5", apart=True)
    assert "is no Dask scheduler that answers" in prepared.refusal("hdf5", apart=True)


@pytest.mark.slow
def test_a_dask_cluster_without_the_library_is_one_sentence(prepared, tmp_path):
    # the documented way to start one has two halves, and who forgets one would get the traceback of another program
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
               "--scheduler-file", "scheduler.json"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as scheduler:
        try:
            while not (tmp_path / "scheduler.json").exists():
                time.sleep(0.1)
            prepared.set({"runtime": {"dask": read_json(tmp_path / "scheduler.json")["address"]}})
            assert "its scheduler does not find the library" in prepared.refusal("hdf5")
        finally:
            scheduler.kill()


@pytest.mark.slow
def test_a_dask_worker_that_dies_is_one_sentence(prepared):
    # else the stage would wait for ever, or end with the traceback of another program
    import dask
    from distributed import LocalCluster

    raw = prepared.folder / "data/raw/frames/D0_S0/000000.jsonl"
    raw.unlink()
    os.mkfifo(raw)  # whoever converts this recording waits here
    one = {"n_workers": 1, "threads_per_worker": 1, "host": "127.0.0.1", "scheduler_port": 0, "dashboard_address": None}
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), LocalCluster(**one) as cluster:
        prepared.set({"runtime": {"dask": cluster.scheduler_address}})
        worker = cluster.workers[0].pid
        # once it reads
        threading.Thread(target=lambda: (open(raw, "wb"), os.kill(worker, signal.SIGKILL)), daemon=True).start()
        assert "a process that wrote recordings was ended by the system" in prepared.refusal("hdf5", apart=True)
