"""What is wrong, or odd, with a grid of spectra, in words."""

from typing import TYPE_CHECKING, Any

import numpy as np

from dspsx import units

if TYPE_CHECKING:
    from dspsx.ssp.grid import SSPGrid

#: H-alpha luminosity per ionising photon in case B at 10^4 K, erg (Osterbrock & Ferland 2006).
_HALPHA_PER_PHOTON = 1.37e-12
_PLANCK_CGS = 6.62607015e-27


def check_axes(wave: np.ndarray, lg_age: np.ndarray, lgmet: np.ndarray) -> None:
    """Raise ValueError, naming the axis and the unit, for an axis that is not what the conventions say."""
    for name, axis in (("wave", wave), ("lg_age", lg_age), ("lgmet", lgmet)):
        if axis.size < 2:
            raise ValueError(f"SSPGrid.{name} needs at least two values to interpolate between; got {axis.size}.")
        if not np.isfinite(axis).all():
            raise ValueError(
                f"SSPGrid.{name} holds {np.count_nonzero(~np.isfinite(axis))} value(s) that are not finite."
            )
        wrong = np.flatnonzero(np.diff(axis) <= 0)
        if wrong.size:
            i = wrong[0]
            raise ValueError(
                f"SSPGrid.{name} must increase strictly; got {axis[i]:.8g}, {axis[i + 1]:.8g} at index {i} "
                f"({wrong.size} such place(s)). Sort the axis, and the flux with it."
            )
    if wave[0] <= 0:
        raise ValueError(f"SSPGrid.wave must be positive; got {wave[0]:g}.")
    if wave[-1] < 1200.0:
        unit, factor = ("micron", 1e4) if wave[-1] < 300.0 else ("nm", 10)
        raise ValueError(
            f"SSPGrid.wave runs from {wave[0]:g} to {wave[-1]:g}, which is no range of a galaxy's light in Angstrom; "
            f"it looks like {unit}: multiply by {factor:g}."
        )
    if lg_age[-1] > 1.5:
        raise ValueError(
            f"SSPGrid.lg_age reaches {lg_age[-1]:g}; expected log10(age/Gyr). If it is log10(age/yr), subtract 9, of "
            "Myr 3; if it is an age, take its log10."
        )
    if lgmet[-1] > -0.7:
        raise ValueError(
            f"SSPGrid.lgmet reaches {lgmet[-1]:g}; expected log10 of the mass fraction Z (solar is about -1.85). If it is "
            "relative to solar, add log10(Z_sun) of the library; if it is Z itself, take its log10."
        )


def check_flux(wave: np.ndarray, lg_age: np.ndarray, lgmet: np.ndarray, flux: np.ndarray) -> None:
    """Raise ValueError for a flux that is not finite, or whose spectra say that `wave` is in nm or micron."""
    bad = ~np.isfinite(flux)
    if bad.any():
        m, a, w = np.argwhere(bad)[0]
        raise ValueError(
            f"SSPGrid.flux holds {bad.sum()} value(s) that are not finite, the first at lgmet = {lgmet[m]:g}, "
            f"lg_age = {lg_age[a]:g}, wave = {wave[w]:g}."
        )
    red = _red_over_ultraviolet(wave, flux)
    if red < 0.5 and _red_over_ultraviolet(wave, flux[:, ::-1]) > 5.0:
        raise ValueError(
            "SSPGrid.flux: the oldest population is blue and the youngest is red: its spectra seem to be in reverse order of age."
        )
    for unit, factor in (("nm", 10.0), ("micron", 1e4)):
        # an old population is red; a grid of the wrong unit looks blue in Angstrom, and red once its unit is mended
        if red < 0.5 and _red_over_ultraviolet(wave * factor, flux) > 5.0:
            raise ValueError(
                f"SSPGrid.wave looks like {unit}, not Angstrom: the oldest population has an old population's "
                f"colours only if they are in {unit}. Multiply by {factor:g}."
            )


def _red_over_ultraviolet(wave: np.ndarray, flux: np.ndarray) -> float:
    """L_nu at 4500-8000 A over that at 1500-2500 A of the oldest, most metal-rich population; 0 where not covered."""
    red, blue = (wave > 4500) & (wave < 8000), (wave > 1500) & (wave < 2500)
    if not (red.any() and blue.any()):
        return 0.0
    return float(flux[-1, -1, red].mean() / max(flux[-1, -1, blue].mean(), 1e-35))


def diagnose(grid: "SSPGrid", lines: dict[str, Any] | None = None) -> list[str]:
    """Physical checks of a grid, a line each; see `SSPGrid.diagnose`."""
    wave, lg_age, lgmet = (np.asarray(x, float) for x in (grid.wave, grid.lg_age, grid.lgmet))
    flux = np.asarray(grid.flux)
    found = [
        f"axes: {wave.size} wavelengths {wave[0]:g}-{wave[-1]:g} A, {lg_age.size} ages {10 ** lg_age[0] * 1e3:.3g} Myr-"
        f"{10 ** lg_age[-1]:.3g} Gyr, {lgmet.size} metallicities Z = {10 ** lgmet[0]:.3g}-{10 ** lgmet[-1]:.3g}"
    ]
    zero, negative = (flux == 0).mean(), (flux < 0).mean()
    subnormal = ((flux != 0) & (np.abs(flux) < np.finfo(np.float32).tiny)).mean()
    label = "odd floors" if negative > 0 else "floors"
    found.append(
        f"{label}: {zero:.2%} of the fluxes are zero, {subnormal:.2%} below float32's range, {negative:.2%} negative"
    )
    solar = int(np.argmin(np.abs(lgmet + 1.8)))
    old, young = int(np.argmin(np.abs(lg_age - 1.0))), int(np.argmin(np.abs(lg_age + 3.0)))
    if wave[0] < 5500 < wave[-1] and lg_age[old] > 0.7:
        mass_to_light = 10 ** (0.4 * (abs_mag_5500(wave, flux[solar, old]) - 4.81))
        label = "mass-to-light" if 0.5 < mass_to_light < 20 else "odd mass-to-light"
        found.append(
            f"{label}: {mass_to_light:.3g} Msun formed per solar luminosity at 5500 A, Z = {10 ** lgmet[solar]:.3g}, "
            f"{10 ** lg_age[old]:.3g} Gyr (2 to 6 is usual; far off means another unit of flux, such as Lsun/A)"
        )
    rate = ionising_photon_rate(wave, flux[:, young])
    if wave[0] < 700 and 10 ** lg_age[young] < 3e-3:
        lg_rate = np.log10(max(rate[solar], 1e-30))
        label = "ionising photons" if 46.0 < lg_rate < 47.3 else "odd ionising photons"
        found.append(
            f"{label}: log10 Q_H = {lg_rate:.2f} per second and Msun at {10 ** lg_age[young] * 1e3:.2g} Myr (46.5 is usual)"
        )
    if lines is not None:
        found.append(_check_halpha(lines, rate[solar], solar, young))
    return found


def abs_mag_5500(wave: np.ndarray, spectrum: np.ndarray) -> float:
    luminosity = np.interp(5500.0, wave, spectrum)
    return float(-2.5 * np.log10(max(luminosity, 1e-30) / units.AB_LSUN_HZ))


def ionising_photon_rate(wave: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """Photons per second blueward of 911.75 A, Q = int L_nu / (h lambda) dlambda, of spectra in Lsun/Hz (trapezoid)."""
    blue = wave <= 911.76
    photons = flux[..., blue].astype(float) * (units.LSUN_CGS / _PLANCK_CGS) / wave[blue]
    return np.asarray(np.trapezoid(photons, wave[blue], axis=-1))


def _check_halpha(lines: dict[str, Any], rate: float, met: int, age: int) -> str:
    """H-alpha over case B times the ionising photons: near one where lines and continuum belong together."""
    index = int(np.argmin(np.abs(np.asarray(lines["ssp_emline_wave"]) - 6564.6)))
    halpha = float(lines["ssp_emline_luminosity"][met, age, index]) * units.LSUN_CGS
    if rate < 1e40:
        return f"lines: H-alpha is {halpha:.3g} erg/s/Msun; the spectra hold no ionising photons to compare it with"
    ratio = halpha / (rate * _HALPHA_PER_PHOTON)
    label = "lines" if 0.3 < ratio < 1.3 else "odd lines"
    return f"{label}: H-alpha over case B times the ionising photons is {ratio:.3g} (0.5 to 1.1 is usual)"


def solar_luminosity(text: Any) -> float:
    try:
        lsun = float(text)
    except ValueError:
        lsun = float("nan")
    if not 3.7e33 < lsun < 4.0e33:
        raise ValueError(
            f"SSPGrid: the attribute l_sun_cgs must be a solar luminosity in erg/s, near 3.83e33; got {text!r}."
        )
    return lsun
