"""LowRankSSP: spectra as a product of two thin matrices."""

from typing import TYPE_CHECKING, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._model import data
from dspsx.ssp.base import SSPLibrary

if TYPE_CHECKING:
    from dspsx.ssp.grid import SSPGrid


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


def factorise(flux: np.ndarray, scale: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """U (row, K) and V (K, column) with flux = U V, the best for rows of flux / scale that are normalised."""
    rows = flux / scale
    norm = np.sqrt((rows**2).mean(1, keepdims=True))
    rows = rows / norm
    _, vectors = np.linalg.eigh(rows @ rows.T)
    vectors = vectors[:, ::-1][:, :rank]
    return norm * vectors, (vectors.T @ rows) * scale


def low_rank(grid: "SSPGrid", rank: int) -> LowRankSSP:
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
