"""`./dev publish python|javascript [--dry-run]`: builds a client package, and publishes it to its registry.

A dry run builds the same files, says what is in them and which command would publish them, and contacts nobody.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from devhost.servers.node import node_environment
from devtools.clients import javascript, python
from devtools.clients.versions import NotPublishable


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev publish", description="Build and publish a client package.")
    parser.add_argument("package", choices=("python", "javascript"))
    parser.add_argument("--dry-run", action="store_true", help="build, and say what would be published")
    given = parser.parse_args(arguments)
    try:
        built, command, environment = _built(given.package)
    except NotPublishable as reason:
        print(f"dev: publish: {reason}", file=sys.stderr)
        return 1
    for path in built:
        print(f"{path.name}  {path.stat().st_size:,} bytes")
        for name, size in contents(path):
            print(f"  {size:>7,}  {name}")
    if given.dry_run:
        print("would run: " + " ".join([Path(command[0]).name, *command[1:]]))
        return 0
    return subprocess.run(command, env=environment, check=False).returncode


def _built(package: str) -> tuple[list[Path], list[str], dict[str, str]]:
    """The files, the command that publishes them, and its environment."""
    if package == "python":
        files = python.build()
        return files, python.upload(files), dict(os.environ)
    tarball = javascript.build()
    return [tarball], javascript.upload(tarball), node_environment()


def contents(path: Path) -> list[tuple[str, int]]:
    """Name and size in bytes of each file in a package."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return sorted((item.filename, item.file_size) for item in archive.infolist() if not item.is_dir())
    with tarfile.open(path) as archive:
        return sorted((item.name, item.size) for item in archive.getmembers() if item.isfile())
