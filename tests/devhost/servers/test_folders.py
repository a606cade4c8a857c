"""What a server's folder remembers and what a data folder refuses."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from devhost.servers import account
from devhost.servers.folder import ServerFolder, free_port, owned_folder
from devhost.servers.process import ServerError


@pytest.fixture
def folder(tmp_path: Path) -> ServerFolder:
    made = ServerFolder(tmp_path / "server")
    made.make()
    return made


def test_a_port_is_kept_between_runs(folder: ServerFolder) -> None:
    assert folder.port("port") == ServerFolder(folder.path).port("port")


def test_a_port_that_was_taken_meanwhile_is_exchanged(folder: ServerFolder) -> None:
    first = folder.port("port")
    with socket.create_server(("127.0.0.1", first)):
        second = folder.port("port")
    assert second != first
    assert folder.port("port") == second


def test_a_wanted_port_that_is_taken_is_named(folder: ServerFolder) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ServerError, match=f"port {port} is taken"):
        folder.port("port", fixed=port)


def test_a_secret_is_kept_and_private(folder: ServerFolder) -> None:
    secret = folder.secret("password")
    assert len(secret) >= 43  # 256 bits in base64
    assert ServerFolder(folder.path).secret("password") == secret
    assert folder.secret("other") != secret
    assert stat.S_IMODE((folder.path / "server.json").stat().st_mode) == 0o600


def test_a_damaged_memory_is_one_line_that_says_what_to_do(folder: ServerFolder) -> None:
    (folder.path / "server.json").write_text("{")
    with pytest.raises(ServerError, match="is damaged: remove"):
        folder.secret("password")


def test_a_data_folder_has_one_owner(tmp_path: Path) -> None:
    with (
        owned_folder(tmp_path, version="1"),
        pytest.raises(ServerError, match="is in use by process"),
        owned_folder(tmp_path, version="1"),
    ):
        pass
    with owned_folder(tmp_path, version="1"):
        pass


def test_a_data_folder_of_another_version_is_refused_and_left_free(tmp_path: Path) -> None:
    with owned_folder(tmp_path, version="1"):
        pass
    with pytest.raises(ServerError, match="is from another version"), owned_folder(tmp_path, version="2"):
        pass
    with owned_folder(tmp_path, version="1"):
        pass


def test_what_others_cannot_reach_gets_a_place_outside_that_follows_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "_SHARED_ROOT", tmp_path / "outside")
    (tmp_path / "outside").mkdir()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    place = account.place_for_data(closed / "data")
    assert place.is_relative_to(tmp_path / "outside")
    assert account.place_for_data(closed / "data") == place
    moved = closed.rename(tmp_path / "moved")
    assert account.place_for_data(moved / "data") == place


def test_programs_others_cannot_reach_are_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "_SHARED_ROOT", tmp_path / "outside")
    (tmp_path / "outside").mkdir()
    programs = tmp_path / "closed" / "bin"
    programs.mkdir(parents=True)
    programs.parent.chmod(0o700)
    (programs / "tool").write_text("x")
    copy = account.place_for_programs(programs, label="tools")
    assert (copy / "tool").read_text() == "x"
    assert account.place_for_programs(programs, label="tools") == copy
    assert stat.S_IMODE(programs.parent.stat().st_mode) == 0o700


def test_a_place_somebody_else_may_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "_SHARED_ROOT", tmp_path)
    planted = tmp_path / f"devhost-{os.geteuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServerError, match="is not a folder of ours alone"):
        account.place_for_data(closed / "data")
