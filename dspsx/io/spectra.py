"""Spectra of simple stellar populations on their way to a file: from the units of their source to dspsx's, and to HDF5.

The files are in DSPS's format and add, where the source has it, `ssp_surviving_mass` (met, age): what is left of each mass
formed, its attribute `description` saying whether remnants count.
"""

import dataclasses
import datetime
import os
from typing import Any

import numpy as np

from dspsx import units
from dspsx._files import write_hdf5
from dspsx._progress import Progress
from dspsx.ssp.checks import check_axes, check_flux

#: Datasets of a library's file.
KEYS = ("ssp_lgmet", "ssp_lg_age_gyr", "ssp_wave", "ssp_flux")
LINE_KEYS = ("ssp_emline_wave", "ssp_emline_luminosity")
SURVIVING = "ssp_surviving_mass"
#: Solar luminosities that others count in, erg/s: GALAXEV's, by which its own magnitudes come out; FSPS's sps_vars.f90.
LSUN_GALAXEV, LSUN_FSPS = 3.826e33, 3.839e33
FLUX_UNITS = ("Lsun/Hz", "Lsun/A", "erg/s/Hz", "erg/s/A")
WAVE_UNITS = {"A": 1.0, "nm": 10.0, "micron": 1e4}
_TINY = float(np.finfo(np.float32).tiny)


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
        for key, axis in zip(KEYS, axes, strict=False):
            file[key] = axis
        packed = {
            "compression": "gzip",
            "shuffle": True,
            "fletcher32": True,
            "chunks": (1, min(16, shape[1]), shape[2]),
        }
        file.create_dataset("ssp_flux", data=spectra.flux, **packed)
        if spectra.surviving is not None:
            file[SURVIVING] = _shaped(SURVIVING, spectra.surviving, shape[:2])
            file[SURVIVING].attrs["description"] = spectra.surviving_says
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
