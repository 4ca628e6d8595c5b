"""HDF5 at the door: clear errors when reading, all or nothing when writing."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import h5py


def data_folder() -> pathlib.Path:
    """Where libraries are kept: `$DSPSX_DATA`, else `dspsx` in `$XDG_CACHE_HOME`, else in `~/.cache`."""
    if own := os.environ.get("DSPSX_DATA"):
        return pathlib.Path(own).expanduser()
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else pathlib.Path.home() / ".cache") / "dspsx"


def require_file(path: pathlib.Path, what: str) -> None:
    """Raise FileNotFoundError, or IsADirectoryError, for what is no file."""
    if path.is_dir():
        raise IsADirectoryError(f"{what}: {str(path)!r} is a folder; give the name of a file.")
    if not path.is_file():
        raise FileNotFoundError(f"{what}: there is no file {str(path)!r}.")


def make_folder(path: pathlib.Path) -> None:
    """Make a folder with those above it, unless it is there; an OSError says which could not be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f"cannot make the folder {str(path)!r} ({error.strerror}): choose another one, by $DSPSX_DATA or --out."
        ) from error


@contextlib.contextmanager
def open_hdf5(path: str | os.PathLike, what: str, required: Sequence[str] = ()) -> Iterator[Any]:
    """Open an HDF5 file for reading, or say what is wrong with it.

    Raises FileNotFoundError, or ValueError for a file that is not HDF5, is truncated, or lacks a `required` dataset.
    """
    path = pathlib.Path(path)
    require_file(path, what)
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        size = path.stat().st_size
        reason = "it is empty" if size == 0 else "it is not HDF5, or it is truncated"
        raise ValueError(f"{what}: cannot read {str(path)!r} ({size} bytes): {reason} [{error}].") from error
    with file:
        try:
            missing = [name for name in required if not isinstance(file.get(name), h5py.Dataset)]
            if missing:
                found = ", ".join(map(str, file.keys())) or "nothing"
                raise ValueError(f"{what}: {str(path)!r} lacks {', '.join(missing)} (as datasets); it holds {found}.")
            yield file
        except (OSError, KeyError, RuntimeError) as error:  # damage may show only when a part is read
            raise ValueError(f"{what}: {str(path)!r} is damaged or truncated [{error}].") from error


@contextlib.contextmanager
def write_hdf5(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Write an HDF5 file beside its final place and move it there when complete: a failure leaves nothing partial."""
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}.")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {str(path)!r}: it is a folder; give the name of a file.")
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".", suffix=".part")
    except OSError as error:
        raise type(error)(f"cannot write {str(path)!r}: {error.strerror}.") from error
    os.close(handle)
    try:
        with h5py.File(name, "w") as file:
            yield file
        umask = os.umask(0)  # mkstemp makes files private; give this one the mode of any other
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
