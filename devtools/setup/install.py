"""The set-up itself: find a Python, make `.venv`, install uv by hash, and with uv everything in the lock.

Written for Python 3.8. Every failure is one line that says what to do.

Invariants: only packages whose hash is in the lock are installed; one set-up at a time per checkout; an
interrupted set-up leaves no process behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from devtools.setup import places
from devtools.setup.interpreters import Failure, find_python, good_python

ROOT, VENV, PYTHON, STAMP, LOCK = (
    Path(path) for path in (places.ROOT, places.VENV, places.PYTHON, places.STAMP, places.LOCK)
)
_PROGRESS_EVERY_S = 5.0


class _Interrupted(BaseException):
    """SIGINT or SIGTERM arrived; carries its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(stamp_found: Callable[[], str], stamp_wanted: Callable[[], str]) -> int:
    """Make .venv from the lock. Returns what `guarded` does."""

    def work() -> None:
        folder = os.open(ROOT, os.O_RDONLY)  # locking the folder itself leaves no lock file behind
        try:
            lock(folder, fcntl.LOCK_EX, "another ./dev is setting up this checkout; waiting for it")
            if stamp_found() != stamp_wanted():  # otherwise another ./dev has just finished it
                _set_up(stamp_wanted)
        finally:
            os.close(folder)

    return guarded(work, "set-up interrupted; the next run starts it again")


def guarded(work: Callable[[], None], interruption: str) -> int:
    """Work whose steps end at SIGINT or SIGTERM. Returns 0, or the exit code after the one error line was printed.

    interruption: the error line after a signal.
    """

    def interrupt(number: int, _frame: object) -> NoReturn:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the clean-up
        raise _Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        work()
    except Failure as failure:
        print(f"dev: {failure}", file=sys.stderr)
        return 1
    except _Interrupted as interrupted:
        before.clear()  # the process ends now; a late second signal must not change its exit code
        print(f"dev: {interruption}", file=sys.stderr)
        return 128 + interrupted.number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def lock(descriptor: int, kind: int, told: str) -> None:
    """Take a lock of a kind of `fcntl.flock`; `told` is printed when that takes waiting."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        say(told)
        fcntl.flock(descriptor, kind)


def _set_up(stamp_wanted: Callable[[], str]) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dev-setup-") as folder:
        scratch = Path(folder)
        uv = VENV / "bin" / "uv"
        if not (good_python(PYTHON) and uv.exists()):
            python = find_python(lambda: _install_uv_apart(scratch), run_step)
            _make_venv(python, scratch)
        if STAMP.exists():
            STAMP.unlink()
        packages = len(re.findall(r"(?m)^[A-Za-z0-9]", LOCK.read_text(encoding="utf-8")))
        _sync(f"installing {packages} packages", uv, LOCK)
        _lead_to_project()
        is_whole = _add_packages_of_agents(uv, scratch)
    if is_whole:
        STAMP.write_text(stamp_wanted() + "\n", encoding="ascii")
    say(f"set-up done in {time.monotonic() - began:.1f} s")


def _sync(what: str, uv: Path, lock: Path) -> None:
    """Have exactly the packages of a lock in .venv."""
    run_step(
        what,
        [
            *(str(uv), "pip", "sync", "--quiet", "--require-hashes", "--python", str(PYTHON)),
            # If Python cannot write bytecode later, every start would compile all packages again.
            *(["--compile-bytecode"] if sys.dont_write_bytecode else []),
            str(lock),
        ],
        env=uv_environment(),
    )


def _add_packages_of_agents(uv: Path, scratch: Path) -> bool:
    """Install what agents/requirements.txt names. False: it cannot be, which was told; all else works, and the next
    run tries again."""
    try:
        # Writes the lock anew when it does not belong to the requirements, and both locks as one.
        both = scratch / "both.lock"
        run_step(
            "taking agents/requirements.txt",
            [str(PYTHON), "-P", "-m", "devtools.setup.agents_lock", str(both)],
            env=uv_environment(),
            is_quiet=True,
        )
        if both.exists():
            _sync("installing the packages of agents/requirements.txt", uv, both)
    except Failure as failure:
        say(f"tools lack their packages, all else works: {failure}")
        return False
    return True


def _make_venv(python: Path, scratch: Path) -> None:
    version = good_python(python)
    run_step(f"making .venv with Python {version} ({python})", [str(python), "-m", "venv", "--clear", str(VENV)])
    run_step("installing uv", [str(PYTHON), "-m", "pip", "install", *_uv_requirement(scratch)])


def _install_uv_apart(scratch: Path) -> Path:
    """Install uv with the Python that started us, outside any environment, to look for a newer Python."""
    target = scratch / "uv"
    run_step(
        "installing uv to look for Python 3.13",
        [sys.executable, "-m", "pip", "install", "--target", str(target), *_uv_requirement(scratch)],
    )
    return target / "bin" / "uv"


def _uv_requirement(scratch: Path) -> list[str]:
    """pip's arguments for exactly the uv in the lock, checked by its hashes."""
    block = re.search(r"(?m)^uv==.*\\\n(?:    --hash=\S+(?: \\)?\n)+", LOCK.read_text(encoding="utf-8"))
    if block is None:
        raise Failure(f"{LOCK.name} does not name uv with its hashes: take the file from the repository again")
    path = scratch / "uv.txt"
    path.write_text(block.group(), encoding="ascii")
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    return [*quiet, "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(path)]


def _lead_to_project() -> None:
    """Make the project's packages importable from any folder, after everything else on the path."""
    for packages in VENV.glob("lib/python*/site-packages"):
        (packages / "checkout.pth").write_text(f"{ROOT}\n", encoding="utf-8")


def uv_environment() -> dict[str, str]:
    """The environment for uv, with pip's index settings, which uv does not read by itself."""
    env = dict(os.environ)
    for pip_name, uv_name in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_CERT", "SSL_CERT_FILE")):
        if env.get(pip_name) and not env.get(uv_name):
            env[uv_name] = env[pip_name]
    return env


def run_step(
    what: str,
    argv: list[str],
    env: dict[str, str] | None = None,
    *,
    cwd: Path | None = None,
    pass_fds: tuple[int, ...] = (),
    is_quiet: bool = False,
) -> None:
    """Run one step and report now and then that it still runs. Raises Failure with the step's own reason.

    is_quiet: it is told only when it takes long.
    """
    if not is_quiet:
        say(what)
    began = last = time.monotonic()
    process: subprocess.Popen[bytes] | None = None
    with tempfile.TemporaryFile() as output:
        try:
            try:
                with _signals_held():
                    process = subprocess.Popen(
                        argv,
                        env=env,
                        cwd=cwd,
                        pass_fds=pass_fds,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                    )
            except OSError as error:
                raise Failure(f"{what}: {argv[0]} cannot be run ({error.strerror})") from error
            while process.poll() is None:
                time.sleep(0.02)
                if time.monotonic() - last > _PROGRESS_EVERY_S:
                    last = time.monotonic()
                    say(f"  still {what} ({last - began:.0f} s)")
        except BaseException:
            if process is not None:
                _end(process)
            raise
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode != 0:
        raise Failure(f"{what} failed: {_reason(text)}")


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """A signal that comes in the block takes effect after it: a process that is just being started has no name yet by
    which it could be ended."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


def _reason(output: str) -> str:
    """The most informative line of the output, or a known cause with its fix."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = lines[-1] if lines else "it gave no reason"
    network = re.search(
        r"(?i)\[Errno -?\d+\] [^'\"):]+|dns error|client error \(Connect\)|connection (?:refused|reset|broken|error)"
        r"|timed out|name resolution|network is unreachable",
        output,
    )
    if network:
        return f"the package registry cannot be reached ({network.group()}): check network, proxy and index settings"
    if re.search(r"(?i)no space left", output):
        return "the disk is full"
    if "ensurepip" in output:
        return "this Python cannot make environments: on Debian or Ubuntu, apt install python3.13-venv"
    return (_uv_reason(output) or told)[:400]


def _uv_reason(output: str) -> str:
    """uv's error with its causes, and the last line of a build that failed; empty for another program's output."""
    found = re.search(r"(?ms)^error: (.+)", output.partition("\nhint: ")[0])
    if found is None:
        return ""
    head, _, build = found.group(1).strip().partition("\n\n")
    lines = [line.strip() for line in [*head.splitlines(), *build.splitlines()[-1:]] if line.strip(" ^")]
    text = " ".join(lines).replace(" cause: ", ": ")
    return text.replace("No solution found when resolving dependencies: ", "")


def say(text: str) -> None:
    """One line of progress."""
    print(f"dev: {text}", file=sys.stderr, flush=True)
