"""SSPGrid: the spectra of simple stellar populations, and the one contraction with weights."""

import abc
import functools
import hashlib
import importlib.resources
import os
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import units
from dspsx._files import open_hdf5, write_hdf5
from dspsx._model import AbstractModel, Number, data, is_concrete, warn
from dspsx._numerics import crowding, gauss_legendre, outer
from dspsx.filters import FilterSet

_KEYS = ("ssp_lgmet", "ssp_lg_age_gyr", "ssp_wave", "ssp_flux")
_DEFAULT_FILE = "ssp_popstar_chabrier.h5"
#: H-alpha luminosity per ionising photon in case B at 10^4 K, erg (Osterbrock & Ferland 2006).
_HALPHA_PER_PHOTON = 1.37e-12
_PLANCK_CGS = 6.62607015e-27


class SSPLibrary(AbstractModel):
    """Light of simple stellar populations on axes of metallicity and age, sampled at wavelengths of its own choice.

    A galaxy asks for nothing else, so that a full grid of spectra (`SSPGrid`), its low-rank form (`LowRankSSP`) and the
    light of a few bands alone (`BandSSP`) are exchangeable. What lies between the stars and the telescope is evaluated at
    `sampling(redshift)`, whatever that is.
    """

    lg_age: eqx.AbstractVar[Float[Array, " age"]]
    lgmet: eqx.AbstractVar[Float[Array, " met"]]

    @abc.abstractmethod
    def sampling(self, redshift: Number) -> Float[Array, " wave"]:
        """Rest-frame wavelengths in Angstrom at which `integrate` gives the light of a galaxy at a redshift."""

    @abc.abstractmethod
    def integrate(self, weights: Float[Array, "*batch met age"], redshift: Number = 0.0) -> Float[Array, "*batch wave"]:
        """Light of a population with `weights` in Msun formed, at `sampling(redshift)`."""

    def integrate_separable(
        self, metallicity: Float[Array, " met"], mass: Float[Array, "*batch age"], redshift: Number = 0.0
    ) -> Float[Array, "*batch wave"]:
        """As `integrate`, of weights that are a product of a distribution of metallicity and masses of each age."""
        weights = outer(metallicity, mass).reshape(*mass.shape[:-1], metallicity.size, mass.shape[-1])
        return self.integrate(weights, redshift)

    @abc.abstractmethod
    def band_average(self, filters: FilterSet, light: Float[Array, " wave"], redshift: Number) -> Float[Array, " band"]:
        """Mean luminosity density in Lsun/Hz in each band of light at `sampling(redshift)`."""

    @abc.abstractmethod
    def spectrum_wave(self) -> Float[Array, " wave"]:
        """Rest-frame wavelengths in Angstrom of a spectrum; raises TypeError if the library holds none."""

    def bolometric(self) -> "tuple[SSPLibrary, Float[Array, ' wave']]":
        """A library of the same stars, and widths in Hz for its wavelengths: light times widths, summed, is a luminosity in
        Lsun. Raises TypeError if there is none."""
        wave = self.spectrum_wave()
        return self, widths_in_hertz(wave)

    def check_use(self, filters: FilterSet, redshift: Number) -> None:
        """Hook: warn, or raise ValueError, of a galaxy with these bands or at this redshift, where values can be seen."""

    def check_igm(self, igm: AbstractModel | None) -> None:
        """Hook: raise ValueError of a galaxy behind an intergalactic medium that the library does not know of."""


@final
class SSPGrid(SSPLibrary):
    r"""Spectra of simple stellar populations on a grid of metallicity and age.

    The light of a galaxy is :math:`L_\nu = \sum_{Z, a} m_{Z, a} \, f_\nu(Z, a)` with m the mass formed that the
    star formation history and the metallicity model put on each grid point (`integrate`). Between grid points the
    spectra are linear in lgmet and in lg_age; the weights of the ingredients take care of that.

    **Fields:** `wave` (wave,) Angstrom, vacuum, rest frame, increasing; `lg_age` (age,) log10(age/Gyr), increasing;
    `lgmet` (met,) log10(Z), absolute mass fraction, increasing; `flux` (met, age, wave) Lsun/Hz per Msun formed, with
    Lsun = 3.828e33 erg/s; `provenance` pairs of text that say where the grid comes from.

    Raises ValueError at construction for a wrong shape, NaN, an axis that does not increase, or the wrong unit.
    Conventions of Hearin et al. 2023, MNRAS 521, 1741.
    """

    wave: Float[Array, " wave"] = data()
    lg_age: Float[Array, " age"] = data()
    lgmet: Float[Array, " met"] = data()
    flux: Float[Array, "met age wave"] = data()
    provenance: tuple[tuple[str, str], ...] = eqx.field(static=True, default=())
    crowds: tuple[int, ...] | None = eqx.field(static=True, default=None)

    def __init__(self, wave: Any, lg_age: Any, lgmet: Any, flux: Any, provenance: tuple[tuple[str, str], ...] = ()):
        self.wave, self.lg_age, self.lgmet, self.flux = wave, lg_age, lgmet, flux
        self.provenance = provenance
        self.crowds = _crowds(wave)

    def __check_init__(self):
        arrays = {name: getattr(self, name) for name in ("wave", "lg_age", "lgmet", "flux")}
        pairs = self.provenance
        if not isinstance(pairs, tuple) or not all(isinstance(p, tuple) and len(p) == 2 for p in pairs):
            raise TypeError(f"SSPGrid.provenance must be a tuple of pairs of text, (name, value); got {pairs!r}.")
        for name, x in arrays.items():
            if not eqx.is_inexact_array(x):
                raise TypeError(f"SSPGrid.{name} must be an array of numbers; got {x!r}.")
        expected = (self.lgmet.size, self.lg_age.size, self.wave.size)
        if self.flux.shape != expected or any(arrays[n].ndim != 1 for n in ("wave", "lg_age", "lgmet")):
            raise ValueError(
                f"SSPGrid.flux must have shape (n_met, n_age, n_wave) = {expected}; got {self.flux.shape}, with lgmet "
                f"{self.lgmet.shape}, lg_age {self.lg_age.shape}, wave {self.wave.shape}."
            )
        if all(is_concrete(x) for x in arrays.values()):
            check_axes(*(np.asarray(arrays[n], float) for n in ("wave", "lg_age", "lgmet")))
            check_flux(*(np.asarray(arrays[n]) for n in ("wave", "lg_age", "lgmet", "flux")))

    def brief(self) -> str:
        """One line about the grid, for printing a model that holds it."""
        library = dict(self.provenance).get("library", "no library named")
        n_met, n_age, n_wave = np.shape(self.flux) if np.ndim(self.flux) == 3 else ("?",) * 3
        return f"SSPGrid({library}, {n_met} metallicities x {n_age} ages x {n_wave} wavelengths)"

    def sampling(self, redshift):
        return self.wave

    def spectrum_wave(self):
        return self.wave

    def band_average(self, filters, light, redshift):
        return filters.band_average(self.wave, light, redshift, self.crowds)

    def check_use(self, filters, redshift):
        if not (is_concrete(redshift) and all(map(is_concrete, jax.tree.leaves((self, filters))))):
            return
        if missed := filters.uncovered(self.wave, redshift):
            warn(
                f"at redshift {float(redshift):g} the spectrum does not cover all of {', '.join(missed)}: light outside the SSP "
                "grid's wavelengths counts as zero."
            )

    def integrate(self, weights: Float[Array, "*batch met age"], redshift: Number = 0.0) -> Float[Array, "*batch wave"]:
        """Spectrum in Lsun/Hz of a population with `weights` in Msun formed: one matrix product with the flat grid.

        The weights are cast to the grid's dtype once (the other way round would convert the grid), and the product
        is done in full float32 on accelerators too, where the default may be TF32, good to a millimagnitude only.
        """
        flat = weights.reshape(*weights.shape[:-2], -1).astype(self.flux.dtype)
        spectrum = jnp.matmul(flat, self.flux.reshape(-1, self.wave.size), precision=jax.lax.Precision.HIGHEST)
        return spectrum.astype(weights.dtype)

    def compress(self, *, rank: int) -> "LowRankSSP":
        """The grid as a product of two thin matrices, `LowRankSSP`, usable wherever a grid is; its errors come with it.

        Raises ValueError for a rank that is not between 1 and the number of spectra.
        """
        return low_rank(self, rank)

    @staticmethod
    def default() -> "SSPGrid":
        """The embedded grid: PopStar (Mollá et al. 2009, MNRAS 398, 451), Chabrier IMF, stars only.

        6 metallicities (Z = 0.0001 to 0.05), 106 ages (0.1 Myr to 15 Gyr), 1229 wavelengths (91 Å to 160 micron).
        Read once; every later call gives the same object, so that galaxies share it.
        """
        return _default(jnp.zeros(()).dtype.name)

    @classmethod
    def from_hdf5(cls, path: str | os.PathLike, *, check: bool = True) -> "SSPGrid":
        """Read a grid in DSPS's HDF5 format: `ssp_lgmet`, `ssp_lg_age_gyr`, `ssp_wave`, `ssp_flux` at the root.

        Root attributes become `provenance`; a grid in units of another solar luminosity (`l_sun_cgs`) is converted.
        With `check` the grid's physics is looked at (see `diagnose`) and what is odd is told as a warning.
        Raises FileNotFoundError or ValueError (naming the dataset, axis or unit) for a file that cannot be used.
        """
        with open_hdf5(path, "SSPGrid.from_hdf5", _KEYS) as file:
            lgmet, lg_age, wave, flux = (file[key][()] for key in _KEYS)
            provenance = {key: _text(value) for key, value in file.attrs.items()}
            lines = _emission_lines(file)
        lsun = _solar_luminosity(provenance.get("l_sun_cgs", units.LSUN_CGS))
        if lsun != units.LSUN_CGS:
            flux = flux * (lsun / units.LSUN_CGS)
            provenance.update(l_sun_cgs=str(units.LSUN_CGS), converted_from_l_sun_cgs=str(lsun))
        provenance.setdefault("library", os.path.basename(os.fspath(path)))
        grid = cls(wave=wave, lg_age=lg_age, lgmet=lgmet, flux=flux, provenance=tuple(sorted(provenance.items())))
        if check:
            for finding in diagnose(grid, lines):
                if finding.startswith("odd"):
                    warn(f"{os.fspath(path)}: {finding}")
        return grid

    def to_hdf5(self, path: str | os.PathLike) -> None:
        """Write the grid in DSPS's HDF5 format, with its provenance as root attributes; all or nothing."""
        with write_hdf5(path) as file:
            for key, array in zip(_KEYS, (self.lgmet, self.lg_age, self.wave, self.flux), strict=True):
                options = {"compression": "gzip", "shuffle": True} if key == "ssp_flux" else {}
                file.create_dataset(key, data=np.asarray(array), **options)
            file.attrs.update(dict(self.provenance))

    def digest(self) -> str:
        """SHA-256 of the grid in float32: the same in either precision. A saved model records it."""
        sha = hashlib.sha256()
        for array in (self.wave, self.lg_age, self.lgmet, self.flux):
            sha.update(np.ascontiguousarray(np.asarray(array), dtype="<f4").tobytes())
        return sha.hexdigest()

    def diagnose(self) -> list[str]:
        """What the grid says about itself, a line each: axes, floors, mass-to-light ratio, ionising photons.

        A line that begins with "odd" deserves a look.
        """
        return diagnose(self)


@final
class LowRankSSP(SSPLibrary):
    r"""Spectra of simple stellar populations as :math:`f_\nu(Z, a, \lambda) = \sum_k U_k(Z, a) V_k(\lambda)`.

    The singular vectors are those of the spectra divided by their mean in light (so that no wavelength is neglected), each
    spectrum normalised (so that no age is). Made by `SSPGrid.compress(rank=...)`. `worst` and `median` are the errors of the
    single spectra, relative to their own flux within 5 % in wavelength, from 912 Angstrom on.
    """

    crowds: tuple[int, ...] | None = eqx.field(static=True)
    worst: float = eqx.field(static=True)
    median: float = eqx.field(static=True)
    source: str = eqx.field(static=True)
    wave: Float[Array, " wave"] = data()
    lg_age: Float[Array, " age"] = data()
    lgmet: Float[Array, " met"] = data()
    basis: Float[Array, "met age K"] = data()
    spectra: Float[Array, "K wave"] = data()

    def brief(self) -> str:
        """One line: rank, errors, and the grid that it stands for."""
        return (
            f"LowRankSSP(rank {self.basis.shape[-1]}, spectra within {self.worst:.2g} at worst, {self.median:.2g} in the median, "
            f"of {self.source})"
        )

    def sampling(self, redshift):
        return self.wave

    def spectrum_wave(self):
        return self.wave

    def band_average(self, filters, light, redshift):
        return filters.band_average(self.wave, light, redshift, self.crowds)

    def integrate(self, weights, redshift=0.0):
        precise = jax.lax.Precision.HIGHEST
        flat = weights.reshape(*weights.shape[:-2], -1)
        factors = jnp.matmul(flat, self.basis.reshape(-1, self.basis.shape[-1]), precision=precise)
        return jnp.matmul(factors, self.spectra, precision=precise)


def widths_in_hertz(wave: Float[Array, " wave"]) -> Float[Array, " wave"]:
    """Integrals over frequency of the hat functions of a wavelength axis in Angstrom."""
    step, falling, rising = jnp.diff(wave), 0.0, 0.0
    for node, weight in zip(*gauss_legendre(3), strict=True):
        at = wave[:-1] + step * float(node)
        value = step * float(weight) * (units.C_ANGSTROM / at) / at
        falling, rising = falling + value * (1.0 - float(node)), rising + value * float(node)
    return jnp.pad(falling, (0, 1)) + jnp.pad(rising, (1, 0))


def factorise(flux: np.ndarray, scale: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """U (row, K) and V (K, column) with flux = U V, the best for rows of flux / scale that are normalised."""
    rows = flux / scale
    norm = np.sqrt((rows**2).mean(1, keepdims=True))
    rows = rows / norm
    _, vectors = np.linalg.eigh(rows @ rows.T)
    vectors = vectors[:, ::-1][:, :rank]
    return norm * vectors, (vectors.T @ rows) * scale


def low_rank(grid: SSPGrid, rank: int) -> LowRankSSP:
    """See `SSPGrid.compress`."""
    n = grid.lgmet.size * grid.lg_age.size
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= n:
        raise ValueError(
            f"SSPGrid.compress: rank must be a whole number from 1 to {n} (metallicities x ages); got {rank!r}."
        )
    wave = np.asarray(grid.wave, float)
    flux = np.asarray(grid.flux, float).reshape(n, -1)
    mean = (flux / np.maximum(flux.sum(1, keepdims=True), 1e-300)).mean(0)
    scale = np.maximum(mean, 1e-12 * mean.max())
    basis, spectra = factorise(flux, scale, rank)
    ln = np.log(wave)
    left, right = np.searchsorted(ln, ln - 0.05), np.searchsorted(ln, ln + 0.05)
    total = np.concatenate([np.zeros((n, 1)), np.cumsum(flux, axis=1)], axis=1)
    nearby = (total[:, right] - total[:, left]) / (right - left)
    seen = (wave >= 912.0) & (nearby > 1e-12 * flux.max(1, keepdims=True))
    error = np.abs(basis @ spectra - flux)[seen] / nearby[seen]
    return LowRankSSP(
        wave=grid.wave,
        lg_age=grid.lg_age,
        lgmet=grid.lgmet,
        basis=basis.reshape(grid.lgmet.size, grid.lg_age.size, rank),
        spectra=spectra,
        crowds=grid.crowds,
        worst=float(error.max()),
        median=float(np.median(error)),
        source=grid.brief(),
    )


def _crowds(wave: Any) -> tuple[int, ...] | None:
    """How crowded the wavelengths are, for the band integrals; none of an axis that is traced, or that the checks will refuse."""
    if not is_concrete(wave) or np.ndim(wave) != 1 or np.size(wave) < 2:
        return None
    axis = np.asarray(wave)
    proper = axis.dtype.kind in "fiu" and np.isfinite(axis).all() and axis[0] > 0 and (np.diff(axis) > 0).all()
    return crowding(axis) if proper else None


@functools.cache
def _default(dtype: str) -> SSPGrid:
    source = importlib.resources.files("dspsx") / "data" / _DEFAULT_FILE
    # under a trace too, the cached grid must be made of real arrays
    with importlib.resources.as_file(source) as path, jax.ensure_compile_time_eval():
        return SSPGrid.from_hdf5(path, check=False)


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


def diagnose(grid: SSPGrid, lines: dict[str, Any] | None = None) -> list[str]:
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
        mass_to_light = 10 ** (0.4 * (_abs_mag_5500(wave, flux[solar, old]) - 4.81))
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


def _abs_mag_5500(wave: np.ndarray, spectrum: np.ndarray) -> float:
    luminosity = np.interp(5500.0, wave, spectrum)
    return float(-2.5 * np.log10(max(luminosity, 1e-30) / units.AB_LSUN_HZ))


def ionising_photon_rate(wave: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """Photons per second blueward of 911.75 A, Q = int L_nu / (h lambda) dlambda, of spectra in Lsun/Hz (trapezoid)."""
    blue = wave <= 911.76
    photons = flux[..., blue].astype(float) * (units.LSUN_CGS / _PLANCK_CGS) / wave[blue]
    return np.asarray(np.trapezoid(photons, wave[blue], axis=-1))


def _emission_lines(file: Any) -> dict[str, Any] | None:
    keys = ("ssp_emline_wave", "ssp_emline_luminosity")
    return {key: file[key][()] for key in keys} if all(key in file for key in keys) else None


def _check_halpha(lines: dict[str, Any], rate: float, met: int, age: int) -> str:
    """H-alpha over case B times the ionising photons: near one where lines and continuum belong together."""
    index = int(np.argmin(np.abs(np.asarray(lines["ssp_emline_wave"]) - 6564.6)))
    halpha = float(lines["ssp_emline_luminosity"][met, age, index]) * units.LSUN_CGS
    if rate < 1e40:
        return f"lines: H-alpha is {halpha:.3g} erg/s/Msun; the spectra hold no ionising photons to compare it with"
    ratio = halpha / (rate * _HALPHA_PER_PHOTON)
    label = "lines" if 0.3 < ratio < 1.3 else "odd lines"
    return f"{label}: H-alpha over case B times the ionising photons is {ratio:.3g} (0.5 to 1.1 is usual)"


def _solar_luminosity(text: Any) -> float:
    try:
        lsun = float(text)
    except ValueError:
        lsun = float("nan")
    if not 3.7e33 < lsun < 4.0e33:
        raise ValueError(
            f"SSPGrid: the attribute l_sun_cgs must be a solar luminosity in erg/s, near 3.83e33; got {text!r}."
        )
    return lsun


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
