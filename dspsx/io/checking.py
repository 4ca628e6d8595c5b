"""What is wrong with the file of a library, in words."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from dspsx import units
from dspsx._files import open_hdf5
from dspsx.dust.draine import DustTable
from dspsx.io.spectra import KEYS, LINE_KEYS, SURVIVING
from dspsx.ssp import SSPGrid
from dspsx.ssp.checks import abs_mag_5500, check_axes, diagnose, ionising_photon_rate


def check(path: str | os.PathLike) -> list[str]:
    """What can be said of a library's file, a line each; a line that begins with "wrong" or "odd" tells of a fault.

    Wrong is what no grid can be made of: a file that cannot be read, axes, shapes, what is not finite. Odd is what no stars
    are like: mass-to-light ratio, ionising photons, negative light, light that grows with age, masses that do not decline.
    """
    try:
        with open_hdf5(path, "check") as file:
            dust = "q_pah" in file
        if dust:
            return [f"a table of dust emission, not of stars, whole: {DustTable.from_hdf5(path).brief()}"]
        with open_hdf5(path, "check", KEYS) as file:
            lgmet, lg_age, wave, flux = (np.asarray(file[key][()]) for key in KEYS)
            lines = {key: file[key][()] for key in LINE_KEYS} if all(key in file for key in LINE_KEYS) else None
            surviving = np.asarray(file[SURVIVING][()]) if SURVIVING in file else None
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
    magnitudes = np.array([[abs_mag_5500(wave, spectra[a]) for a in ages] for spectra in flux])
    wrong = ", ".join(f"{10 ** lgmet[m]:.3g}" for m in np.flatnonzero((np.diff(magnitudes) <= 0).any(1)))
    fading = "the light at 5500 A does not fade from 0.1 to 1 to 10 Gyr; are the spectra in the order of the ages?"
    return [f"odd ageing: at Z = {wrong} {fading}"] if wrong else []


def _likely_unit(wave: np.ndarray, spectrum: np.ndarray) -> list[str]:
    """In what unit the mass-to-light ratio of an old population would be right."""
    factors = {"Lsun/A": wave**2 / units.C_ANGSTROM, "erg/s/Hz": 1.0 / units.LSUN_CGS}
    factors["erg/s/A"] = factors["Lsun/A"] / units.LSUN_CGS
    ratios = {unit: 10 ** (0.4 * (abs_mag_5500(wave, spectrum * f) - 4.81)) for unit, f in factors.items()}
    likely = [f"{unit} ({ratio:.3g})" for unit, ratio in ratios.items() if 0.5 < ratio < 20]
    advice = "dspsx ssp import FILE --flux-unit UNIT --out OUT converts it"
    return [f"odd unit: the mass-to-light ratio would be usual in {', '.join(likely)}: {advice}"] if likely else []


def _check_surviving(fraction: np.ndarray, shape: tuple[int, ...]) -> str:
    if fraction.shape != shape or fraction.dtype.kind not in "fiu":
        return (
            f"wrong shape: {SURVIVING} must be numbers (met, age) = {shape}; got {fraction.shape} of {fraction.dtype}"
        )
    if not np.isfinite(fraction).all() or fraction.min() < 0 or fraction.max() > 1.001:
        return f"odd masses: {SURVIVING} must be between 0 and 1; it runs from {fraction.min():.3g} to {fraction.max():.3g}"
    rise = float((fraction - np.minimum.accumulate(fraction, axis=1)).max())
    label = "odd masses" if rise > 0.02 else "masses"
    return (
        f"{label}: {fraction[:, -1].min():.3g} to {fraction[:, -1].max():.3g} of the mass formed is left at the oldest age"
        + (f"; it grows with age by up to {rise:.2g}" if rise > 0.02 else "")
    )
