"""SSPGrid: the spectra of simple stellar populations, and the one contraction with weights."""

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
from dspsx._model import Number, data, is_concrete, warn
from dspsx._numerics import crowding, outer
from dspsx.ssp.base import SSPLibrary
from dspsx.ssp.checks import check_axes, check_flux, diagnose, solar_luminosity
from dspsx.ssp.contraction import LARGE, sum_of_spectra
from dspsx.ssp.low_rank import LowRankSSP, low_rank

_KEYS = ("ssp_lgmet", "ssp_lg_age_gyr", "ssp_wave", "ssp_flux")
EMBEDDED_FILE = "ssp_popstar_chabrier.h5"
#: Angstrom: between these is nearly all the starlight that dust absorbs.
_ABSORBED = 1000.0, 20_000.0


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

    def check_energy(self):
        first, last = float(self.wave[0]), float(self.wave[-1])
        if first > _ABSORBED[0] or last < _ABSORBED[1]:
            warn(
                f"the spectrum runs from {first:.4g} to {last:.4g} A: what dust absorbs of the starlight outside is missing in "
                f"its emission. Take a grid that reaches from {_ABSORBED[0]:g} to {_ABSORBED[1]:g} A."
            )

    def integrate(self, weights: Float[Array, "*batch met age"], redshift: Number = 0.0) -> Float[Array, "*batch wave"]:
        """Spectrum in Lsun/Hz of a population with `weights` in Msun formed: one matrix product with the flat grid.

        The weights are cast to the grid's dtype once (the other way round would convert the grid), and the product
        is done in full float32 on accelerators too, where the default may be TF32, good to a millimagnitude only.
        """
        flat = weights.reshape(*weights.shape[:-2], -1).astype(self.flux.dtype)
        spectrum = jnp.matmul(flat, self.flux.reshape(-1, self.wave.size), precision=jax.lax.Precision.HIGHEST)
        return spectrum.astype(weights.dtype)

    def starlight(self, metallicity, mass, redshift=0.0, compact=False):
        if not compact or self.flux.size < LARGE:
            return super().starlight(metallicity, mass, redshift, compact)
        weights = outer(metallicity[:, 0], mass) if metallicity.shape[1] == 1 else metallicity[None] * mass[:, None, :]
        flat = weights.reshape(len(mass), -1).astype(self.flux.dtype)
        light = sum_of_spectra(flat, metallicity, self.flux)
        return light.astype(weights.dtype)

    def compress(self, *, rank: int) -> LowRankSSP:
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
        lsun = solar_luminosity(provenance.get("l_sun_cgs", units.LSUN_CGS))
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


def _crowds(wave: Any) -> tuple[int, ...] | None:
    """How crowded the wavelengths are, for the band integrals; none of an axis that is traced, or that the checks will refuse."""
    if not is_concrete(wave) or np.ndim(wave) != 1 or np.size(wave) < 2:
        return None
    axis = np.asarray(wave)
    proper = axis.dtype.kind in "fiu" and np.isfinite(axis).all() and axis[0] > 0 and (np.diff(axis) > 0).all()
    return crowding(axis) if proper else None


@functools.cache
def _default(dtype: str) -> SSPGrid:
    source = importlib.resources.files("dspsx") / "data" / EMBEDDED_FILE
    # under a trace too, the cached grid must be made of real arrays
    with importlib.resources.as_file(source) as path, jax.ensure_compile_time_eval():
        return SSPGrid.from_hdf5(path, check=False)


def _emission_lines(file: Any) -> dict[str, Any] | None:
    keys = ("ssp_emline_wave", "ssp_emline_luminosity")
    return {key: file[key][()] for key in keys} if all(key in file for key in keys) else None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
