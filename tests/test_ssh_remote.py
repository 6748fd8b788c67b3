"""Data pushed to and pulled from a real SSH server on the loopback, under the account that runs the tests."""

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
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None or sys.platform != "linux", reason="no sshd: apt-get install openssh-server"),
]


@pytest.fixture
def server(tmp_path):
    """An sshd with its own keys: its port, and the client's key."""
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o700)
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "client.pub", folder / "authorized_keys")
    settings = {
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": folder / "pid",
        "PasswordAuthentication": "no",
        "StrictModes": "no",  # the folder lies under /tmp, which everyone may write to
        "UsePAM": "no",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    Path("/run/sshd").mkdir(exist_ok=True) if os.geteuid() == 0 else None  # as root, sshd needs it
    running, port = start(folder)
    yield port, folder / "client"
    running.terminate()
    running.wait()


def start(folder):
    """Starts sshd with the settings in the folder; returns the process and its port once it listens."""
    for _ in range(10):  # another program may take the port before sshd does
        port = free_port()
        with open(folder / "log", "wb") as log:
            command = [SSHD, "-D", "-e", "-f", folder / "config", "-p", str(port)]
            running = subprocess.Popen(command, stderr=log)
        while running.poll() is None:
            if f"Server listening on 127.0.0.1 port {port}" in (folder / "log").read_text():
                return running, port
            time.sleep(0.05)
    raise AssertionError(f"sshd ends at once: {(folder / 'log').read_text()}")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def dvc(folder, *arguments):
    command = [sys.executable, "-m", "dvc", *map(str, arguments)]
    environment = os.environ | {"HOME": str(folder.parent)}  # without this account's known hosts and keys
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
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
