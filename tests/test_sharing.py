"""pytest tests/test_sharing.py - a team on one repository: git, dvc and gto themselves, in clones that share a remote.

Without these, what one engineer trained could not be compared, carried on or used by another.
"""

import asyncio
import csv
import json
import re
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import boto3
import h5py
import pytest
from moto.server import ThreadedMotoServer
from ruamel.yaml import YAML

from clones import ROOT, SEVEN, Clone, cloned, tiny_repository
from tdengine_server import COLUMNS, TDengineServer
from thermal_action.raw import PayloadFormat
from tiny import write_archive

NOTHING_TO_DO = "Data and pipelines are up to date"
# of every run its own: they must be found nowhere in Git, and this file is in Git
KEYS = {name: secrets.token_hex(20) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}


class Team:
    """A repository that its first member has trained in, an empty Git server, and members who clone it from there."""

    def __init__(self, folder: Path, finished: Clone):
        self.folder, self.origin, self.first = folder, folder / "origin.git", Clone(folder / "first")
        shutil.copytree(finished.folder, self.first.folder, symlinks=True)
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch", "main", self.origin], check=True)
        self.first.git("remote", "add", "origin", str(self.origin))

    def publish(self, url: str) -> None:
        """The remote as README sets it up; its address goes through Git."""
        self.first.dvc("remote", "add", "--default", "storage", url)
        self.first.dvc("remote", "modify", "storage", "verify", "true")
        self.first.commit("remote")

    def push(self, **environment: str) -> None:
        self.first.dvc("push", **environment)
        self.first.git("push", "--quiet", "--set-upstream", "origin", "main")

    def join(self, name: str) -> Clone:
        return cloned(self.origin, self.folder / name)


@pytest.fixture
def team(finished, tmp_path) -> Team:
    return Team(tmp_path, finished)


@pytest.fixture
def sharing(team) -> Team:
    """A team whose first member has pushed data and code, through a folder."""
    team.publish(str(team.folder / "storage"))
    team.push()
    return team


def hashed(storage: str, lock: Clone, path: str) -> str:
    """Where an output of the pipeline lies in a storage."""
    digest = lock.locked_hashes()[path]
    return f"{storage}/files/md5/{digest[:2]}/{digest[2:]}"


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def list_experiments(clone: Clone) -> dict[str, dict[str, str]]:
    rows = csv.DictReader(clone.dvc("exp", "show", "--csv").splitlines())
    return {row["Experiment"] or row["rev"]: row for row in rows}


# data, models and experiments

@pytest.mark.nightly
def test_members_go_on_with_each_other_s_data_models_and_experiments(sharing):
    first, second = sharing.first, sharing.join("second")
    first.dvc("exp", "run", "--name", "slower", "-S", "train.lr=0.0005")
    first.dvc("exp", "push", "origin", "slower")

    second.dvc("pull")
    assert NOTHING_TO_DO in second.dvc("repro") and second.git("status", "--porcelain") == ""
    second.dvc("exp", "pull", "origin", "slower")
    said = second.dvc("exp", "run", "--name", "faster", "-S", "train.lr=0.01")
    assert "Running stage 'train'" in said and "Running stage 'coco'" not in said
    assert "train.lr" in second.dvc("params", "diff")
    rates = {name: float(row["train.lr"]) for name, row in list_experiments(second).items()}
    assert rates == {"workspace": 0.01, "main": 0.003, "slower": 0.0005, "faster": 0.01}
    second.dvc("exp", "push", "origin", "faster")

    third = sharing.join("third")
    third.dvc("exp", "pull", "origin", "faster")
    third.dvc("exp", "apply", "faster")
    assert third.metrics() == second.metrics() and NOTHING_TO_DO in third.dvc("repro")
    assert third.locked_hashes() == second.locked_hashes() != first.locked_hashes()


@pytest.mark.slow
def test_experiments_are_readable_as_they_stand(sharing):
    # else what decides would stand somewhere among a hundred columns
    columns = list(next(iter(list_experiments(sharing.first).values())))
    measured = columns[columns.index("parent") + 1 : columns.index("classes")]
    assert len(measured) < 10 and {"top1", "mean_class", "margin_top1"} <= set(measured)
    assert set(measured) == json.loads((sharing.first.folder / "metrics/summary.json").read_text()).keys()


@pytest.mark.slow
def test_the_model_alone_is_enough_to_predict(sharing):
    clone = sharing.join("user")
    clone.dvc("pull", "models/best.pt")
    assert not any((clone.folder / "data").glob("*/*"))
    recordings = write_archive(sharing.folder / "archive", devices=1, sessions=1) / "frames"
    clone.run("python", "stages/predict.py", "models/best.pt", str(recordings), "--out", "predictions")
    (written,) = (clone.folder / "predictions").glob("*.jsonl")
    assert len(written.read_text().splitlines()) > 10


@pytest.mark.slow
def test_an_altered_object_is_refused_by_whoever_pulls_it(sharing):
    path = Path(hashed(str(sharing.folder / "storage"), sharing.first, "models/best.pt"))
    path.chmod(0o644)
    path.write_bytes(flip_a_bit(path.read_bytes()))
    clone = sharing.join("second")
    said = clone.dvc("pull", "models/best.pt", check=False)
    assert "ERROR" in said and not (clone.folder / "models/best.pt").exists()


@pytest.mark.slow
def test_after_dvc_install_git_push_pushes_data_too(team):
    # the commonest failure of a team is code that is pushed without its data
    team.publish(str(team.folder / "storage"))
    team.first.dvc("install")
    team.first.git("push", "--quiet", "--set-upstream", "origin", "main")
    clone = team.join("second")
    clone.dvc("pull")
    assert NOTHING_TO_DO in clone.dvc("repro")


# remotes

@pytest.mark.slow
def test_a_bucket_in_s3_and_no_credentials_in_git(team, monkeypatch):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(team.folder / "none"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b")
    bucket.create_bucket(Bucket="thermal")
    try:
        team.publish("s3://thermal/store")
        team.first.dvc("remote", "modify", "--local", "storage", "endpointurl", endpoint)
        team.push(**KEYS)
        second = team.join("second")
        second.dvc("remote", "modify", "--local", "storage", "endpointurl", endpoint)
        refused = second.dvc("pull", check=False)
        assert "credentials" in refused.lower() and "Traceback" not in refused
        second.dvc("pull", **KEYS)
        assert NOTHING_TO_DO in second.dvc("repro") and second.metrics() == team.first.metrics()

        key = hashed("store", team.first, "models/best.pt")
        altered = flip_a_bit(bucket.get_object(Bucket="thermal", Key=key)["Body"].read())
        bucket.put_object(Bucket="thermal", Key=key, Body=altered)
        third = team.join("third")
        third.dvc("remote", "modify", "--local", "storage", "endpointurl", endpoint)
        assert "ERROR" in third.dvc("pull", "models/best.pt", check=False, **KEYS)
        assert not (third.folder / "models/best.pt").exists()
    finally:
        server.stop()
    for clone in (team.first, second):
        everything = clone.git("log", "--all", "--patch") + (clone.folder / ".dvc/config").read_text()
        assert not [key for key in KEYS.values() if key in everything]


class SSHServer(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False  # anybody: what is tested is the way of the data


@pytest.fixture
def ssh_port() -> Iterator[int]:
    """A real SSH server with SFTP on loopback."""
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncssh.create_server(
        SSHServer, "127.0.0.1", 0, server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")], sftp_factory=True))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield listening.get_port()
    listening.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.mark.slow
def test_a_folder_behind_ssh(team, ssh_port):
    team.publish(f"ssh://somebody@127.0.0.1:{ssh_port}{team.folder}/storage")
    team.push()
    clone = team.join("second")
    clone.dvc("pull")
    assert NOTHING_TO_DO in clone.dvc("repro") and (team.folder / "storage/files/md5").is_dir()


# a database that not everybody can ask

def fill(server: TDengineServer, archive: Path) -> None:
    """The recordings of an archive as the tables of its devices."""
    payload, rows = PayloadFormat("base64", "zlib", "float32"), {}
    for path in sorted((archive / "frames").glob("*.h5")):
        with h5py.File(path) as file:
            table = "sensor_" + file.attrs["mac_address"].replace(":", "_")
            frames, stamps, numbers = file["frames"][:], file["timestamps"][:].tolist(), file["frame_seqs"][:].tolist()
        rows.setdefault(table, []).extend((stamp, payload.encode(frame), 16, 16, number)
                                          for stamp, frame, number in zip(stamps, frames, numbers, strict=True))
    for table, frames in rows.items():
        server.add(table, COLUMNS, sorted(frames))


@pytest.mark.nightly
def test_who_has_neither_database_nor_password_works_on_what_was_fetched(tmp_path, finished):
    clone = tiny_repository(tmp_path / "tdengine")
    archive = write_archive(tmp_path / "archive", classes=SEVEN)
    shutil.copytree(archive / "keyframes", clone.folder / "keyframes")
    with TDengineServer() as server:
        fill(server, archive)
        clone.set_params({"fetch": {"source": "tdengine"}, "server": {"url": server.url}})
        clone.commit("our database")
        clone.dvc("repro", TDENGINE_USER=server.user, TDENGINE_PASSWORD=server.password)
    clone.dvc("freeze", "fetch")
    clone.commit("recordings")
    team = Team(tmp_path / "team", clone)
    team.publish(str(tmp_path / "storage"))
    team.push()

    second = team.join("second")
    second.dvc("pull")
    assert NOTHING_TO_DO in second.dvc("repro")
    said = second.dvc("exp", "run", "-S", "hdf5.level=4")
    assert "Running stage 'hdf5'" in said and "Running stage 'fetch'" not in said
    second.git("checkout", "--quiet", ".")
    second.dvc("unfreeze", "fetch")
    asked = second.dvc("repro", "--force", "--single-item", "fetch", check=False)
    assert "TDENGINE_USER" in asked and "dvc pull" in asked and "Traceback" not in asked


# the registry

@pytest.mark.nightly
def test_a_registered_model_is_got_by_name_and_version_from_anywhere(sharing):
    first, elsewhere = sharing.first, Clone(sharing.folder / "elsewhere")
    for command in (["register", "person-action", "--version", "v0.1.0"],
                    ["assign", "person-action", "--version", "v0.1.0", "--stage", "trial"]):
        first.run("gto", *command, GIT_COMMITTER_NAME="t", GIT_COMMITTER_EMAIL="t@localhost")
    first.git("push", "--quiet", "origin", "--tags")
    expected = (first.folder / "models/best.pt").read_bytes()
    first.set_params({"train": {"lr": 0.01}})  # a later model does not take the place of a registered one
    first.dvc("repro", "train")
    first.commit("another model")
    sharing.push()
    elsewhere.folder.mkdir()
    for which in (["--rev", "v0.1.0"], ["--stage", "trial"]):
        elsewhere.dvc("artifacts", "get", str(sharing.origin), "person-action", *which)
        assert (elsewhere.folder / "best.pt").read_bytes() == expected
        (elsewhere.folder / "best.pt").unlink()
    assert "person-action" in elsewhere.run("gto", "show", "--repo", str(sharing.origin))


# what a pull request shows

def render(page: Path) -> str:
    """What a browser without a network makes of a page."""
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--virtual-time-budget=20000"]
    process = subprocess.run(["unshare", "--user", "--net", "chromium", *quiet, f"--user-data-dir={page.parent / 'profile'}",
                              "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
    return process.stdout


@pytest.mark.nightly
def test_a_pull_request_shows_its_scores_and_plots_without_secrets_or_network(team):
    workflow = YAML(typ="safe").load(ROOT / ".github/workflows/ci.yml")
    assert "secrets." not in (ROOT / ".github/workflows/ci.yml").read_text()
    steps = {step.get("name"): step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step}
    clone = team.first
    clone.git("checkout", "--quiet", "-b", "slower")
    clone.set_params({"train": {"lr": 0.0005}})
    clone.commit("slower")
    summary = clone.folder / "summary.md"
    clone.run("bash", "-e", "-c", steps["Compare parameters, scores and plots with the base"], BASE="main",
              GITHUB_STEP_SUMMARY=str(summary))
    parts = re.split("^## ", re.sub(" +", " ", summary.read_text()), flags=re.MULTILINE)[1:]
    assert [part.splitlines()[0] for part in parts] == ["Parameters", "Committed scores", "Scores of a tiny run"]
    assert "| Path | Param | base | change |" in parts[0] and "| params.yaml | train.lr | 0.003 | 0.0005 |" in parts[0]
    assert "| metrics/summary.json | top1 |" in parts[2]
    page = clone.folder / "report/index.html"
    assert "vegaEmbed" in page.read_text() and 'src="http' not in page.read_text()
    if shutil.which("chromium"):
        assert render(page).count('class="marks"') == page.read_text().count("vegaEmbed('#") > 5
