"""Emission of dust with PAHs, from a table of spectra that is made on the user's machine."""

import functools
import os
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import units
from dspsx._files import data_folder, open_hdf5
from dspsx._model import AbstractModel, Scalar, data, param
from dspsx._numerics import interpolation_weights, matmul
from dspsx.dust.emission import DustEmission

#: Largest intensity of starlight, in that of the solar neighbourhood, that a power law of intensities reaches.
_U_MAX = 1e6
_KEYS = ("wave", "q_pah", "u_min", "l_nu")


@final
class DustTable(AbstractModel):
    """Spectra of dust on a grid of the share of PAHs and of the intensity of starlight: `DraineLi07` reads one.

    Each node's integral over frequency is one. A spectrum is factors (node, K) times spectra (K, wave); K = 20 differs from
    the table of Draine & Li (2007) by 2.4e-4 rms where nu L_nu is above a thousandth of its peak (0.5 % at worst), less
    than the noise of their table, about 2 %.

    **Fields:** `wave` (wave,) Angstrom, uniform in ln(wave), zero light at its ends; `q_pah` and `u_min`, the axes;
    `factors` (node, K), nodes in the order of (one intensity or the power law above it, q_pah, u_min); `spectra` (K, wave)
    in 1/Hz; `provenance` pairs of text.
    """

    wave: Float[Array, " wave"] = data()
    q_pah: Float[Array, " q"] = data()
    u_min: Float[Array, " u"] = data()
    factors: Float[Array, "node factor"] = data()
    spectra: Float[Array, "factor wave"] = data()
    provenance: tuple[tuple[str, str], ...] = eqx.field(static=True, default=())

    def brief(self) -> str:
        """One line about the table, for printing a model that holds it."""
        name = dict(self.provenance).get("library", "no library named")
        return f"DustTable({name}, {self.q_pah.size} q_pah x {self.u_min.size} u_min x {self.wave.size} wavelengths)"

    @classmethod
    def from_spectra(
        cls,
        wave: Any,
        q_pah: Any,
        u_min: Any,
        l_nu: Any,
        *,
        rank: int = 20,
        provenance: tuple[tuple[str, str], ...] = (),
    ) -> "DustTable":
        """A table of spectra in any unit of L_nu: they are normalised, and kept to `rank`.

        **Arguments:** `wave` (wave,) in Angstrom, uniform in ln(wave); `q_pah` in percent; `u_min`; `l_nu` (2, q_pah,
        u_min, wave): dust in starlight of one intensity u_min, and in a power law of intensities from u_min to 1e6.

        Raises ValueError for another shape, an axis that does not increase or is not uniform, and spectra that are
        negative, not finite, or dark.
        """
        wave, q_pah, u_min, l_nu = (np.asarray(x, float) for x in (wave, q_pah, u_min, l_nu))
        for name, x in (("wave", wave), ("q_pah", q_pah), ("u_min", u_min)):
            if x.ndim != 1 or x.size < 2 or not np.isfinite(x).all() or (np.diff(x) <= 0).any() or x[0] <= 0:
                raise ValueError(
                    f"DustTable.{name} must be a row of two or more positive numbers that increase; got {x}."
                )
        shape = (2, q_pah.size, u_min.size, wave.size)
        if l_nu.shape != shape:
            raise ValueError(f"DustTable: l_nu must have shape (2, q_pah, u_min, wave) = {shape}; got {l_nu.shape}.")
        step = np.log(wave[-1] / wave[0]) / (wave.size - 1)
        if np.abs(np.diff(np.log(wave)) / step - 1.0).max() > 0.01:
            raise ValueError("DustTable.wave must be uniform in ln(wave): its steps differ by more than 1 %.")
        rows = l_nu.reshape(-1, wave.size)
        if not np.isfinite(rows).all() or (rows < 0).any() or (rows.max(-1) <= 0).any():
            raise ValueError("DustTable: l_nu must be finite and not negative, and each spectrum positive somewhere.")
        # integrals over frequency of what is linear in ln(wave) between the points, and falls to zero one step beyond the ends
        width = units.C_ANGSTROM / wave * (2.0 * np.cosh(step) - 2.0) / step
        rows = rows / (rows @ width)[:, None]
        # relative to a usual spectrum: weak light counts as much
        scale = np.maximum(rows.mean(0), 1e-12 * rows.mean(0).max())
        left, strength, right = np.linalg.svd(rows / scale, full_matrices=False)
        factors, spectra = left[:, :rank] * strength[:rank], right[:rank] * scale
        # what the rank leaves out has some luminosity
        factors = factors / (factors @ (spectra @ width))[:, None]
        return cls(
            wave=np.exp(np.log(wave[0]) + step * np.arange(-1, wave.size + 1)),
            q_pah=q_pah,
            u_min=u_min,
            factors=factors,
            spectra=np.pad(spectra, ((0, 0), (1, 1))),
            provenance=provenance,
        )

    @classmethod
    def from_hdf5(cls, path: str | os.PathLike) -> "DustTable":
        """Read a file that `dspsx ssp fetch draine-li07` has made. Raises FileNotFoundError, or ValueError for a file that is
        damaged, truncated or something else."""
        with open_hdf5(path, "DustTable.from_hdf5", _KEYS) as file:
            arrays = [np.asarray(file[key][()]) for key in _KEYS]
            provenance = tuple(sorted((key, str(value)) for key, value in file.attrs.items()))
        try:
            return cls.from_spectra(*arrays, provenance=provenance)
        except (ValueError, TypeError) as error:
            raise ValueError(f"DustTable.from_hdf5: {os.fspath(path)!r} holds no table of dust: {error}") from error

    @classmethod
    def default(cls) -> "DustTable":
        """The table of Draine & Li (2007) in the user's folder of data; read once, so that galaxies share it.

        Raises FileNotFoundError, saying what to run, where it is not there.
        """
        path = data_folder() / "draine-li07.h5"
        if not path.is_file():
            raise FileNotFoundError(
                f"DraineLi07: its table is not in {str(path.parent)!r} yet: run `dspsx ssp fetch draine-li07` once, or give "
                "table=DustTable.from_hdf5(path)."
            )
        return _read(str(path), path.stat().st_mtime_ns, jnp.zeros(()).dtype.name)


@functools.lru_cache(maxsize=2)
def _read(path: str, changed: int, dtype: str) -> DustTable:
    with jax.ensure_compile_time_eval():  # under a trace too, a table that is kept must be made of real arrays
        return DustTable.from_hdf5(path)


@final
class DraineLi07(DustEmission):
    r"""Silicate and carbonaceous grains with PAHs, heated by starlight (Draine & Li 2007, ApJ 657, 810; their Milky Way
    dust, MW3.1):

    .. math:: L_\nu \propto (1 - \gamma) \, j_\nu(q, U_{min}) + \gamma \, j_\nu(q, U_{min}...10^6)

    The share 1 - gamma of the dust's mass is in starlight of one intensity, and the rest in a power law of intensities,
    dM/dU ~ U^-2, and emits more: of the luminosity it has s = gamma R / (1 - gamma + gamma R), with R = ln(U_max / U_min) /
    (1 - U_min / U_max) the ratio of their mean intensities (Draine et al. 2007, ApJ 663, 866, eq. 17).

    Spectra of unit luminosity are interpolated linearly in q_pah, in ln u_min and, from 1 micron to 1 cm, in ln(wave);
    the integral is one. Where nu L_nu is above a thousandth of its peak, a node of u_min that is left out is met within
    5 % (1 % rms) by its neighbours, one of q_pah within 8 % (2.4 % rms), from twice as far as others are. Beyond the
    table there is no light.

    Raises FileNotFoundError, saying what to run, where the table is not there: it is made on the user's machine.
    """

    q_pah: Scalar = param(2.5, bounds=(0.47, 4.58), unit="%", doc="share of the dust's mass in PAHs")
    u_min: Scalar = param(1.0, bounds=(0.1, 25.0), doc="intensity of starlight, 1 near the Sun")
    gamma: Scalar = param(0.02, bounds=(0.0, 1.0), doc="share of the dust's mass in more intense starlight")
    table: DustTable = eqx.field(default_factory=DustTable.default, kw_only=True)

    def __check_init__(self):
        if not isinstance(self.table, DustTable):
            raise TypeError(f"DraineLi07.table must be a DustTable, as DustTable.from_hdf5 reads; got {self.table!r}.")

    def spectrum(self, wave):
        table = self.table
        ratio = jnp.log(_U_MAX / self.u_min) / (1.0 - self.u_min / _U_MAX)
        bright = self.gamma * ratio / (1.0 - self.gamma + self.gamma * ratio)
        weights = interpolation_weights(self.q_pah, table.q_pah)[:, None]
        weights = weights * interpolation_weights(jnp.log(self.u_min), jnp.log(table.u_min))[None, :]
        weights = jnp.concatenate([(1.0 - bright) * weights.ravel(), bright * weights.ravel()])
        light = matmul(matmul(weights, table.factors), table.spectra)
        step = jnp.log(table.wave[-1] / table.wave[0]) / (table.wave.size - 1)
        place = jnp.clip(jnp.log(wave / table.wave[0]) / step, 0.0, table.wave.size - 1.0)
        cell = jnp.minimum(place.astype(jnp.int32), table.wave.size - 2)
        part = place - cell.astype(place.dtype)
        return light[cell] * (1.0 - part) + light[cell + 1] * part
