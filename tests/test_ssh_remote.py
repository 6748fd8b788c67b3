"""Data pushed to and pulled from a real SSH server, on the loopback, as nobody's account but this one's."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.made_project import Project, git

SSHD = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
pytestmark = pytest.mark.skipif(
    SSHD is None or sys.platform != "linux", reason="no sshd: apt-get install openssh-server"
)


@pytest.fixture
def server(tmp_path):
    """An sshd with keys of its own; its port, and the key that opens it."""
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o700)
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "client.pub", folder / "authorized_keys")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": folder / "pid",
        "PasswordAuthentication": "no",
        "StrictModes": "no",  # the folder of a test lies under one that all may write
        "UsePAM": "no",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    Path("/run/sshd").mkdir(exist_ok=True) if os.geteuid() == 0 else None  # sshd as root asks for it
    with open(folder / "log", "wb") as log:
        running = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=log)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield port, folder / "client"
    running.terminate()
    running.wait(10)


def dvc(folder, *arguments):
    command = [sys.executable, "-m", "dvc", *map(str, arguments)]
    environment = os.environ | {"HOME": str(folder.parent)}  # not this person's known hosts, keys and settings
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"dvc {' '.join(map(str, arguments))}: {done.stderr}"
    return done.stdout


def test_data_goes_to_an_ssh_remote_and_comes_back_in_a_fresh_clone(server, tmp_path):
    port, key = server
    project = Project(tmp_path / "project")
    project.dataset("digits")
    address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path / 'store'}"
    dvc(project.root, "remote", "add", "--default", "team", address)
    project.commit()
    git(tmp_path, "clone", "-q", "project", "clone")
    for folder in (project.root, tmp_path / "clone"):
        dvc(folder, "remote", "modify", "--local", "team", "keyfile", key)
    dvc(project.root, "push")
    kept = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(kept) >= 1
    dvc(tmp_path / "clone", "pull")
    pulled = tmp_path / "clone/data/digits/cases"
    assert pulled.read_bytes() == (project.root / "data/digits/cases").read_bytes()
    assert "Everything is up to date" in dvc(project.root, "push")
