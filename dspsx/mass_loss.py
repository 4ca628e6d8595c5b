"""What is left of the mass that formed: stars lose mass and die."""

import abc
import os
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._files import open_hdf5
from dspsx._model import AbstractModel, data, is_concrete
from dspsx._numerics import pow10

#: Coefficients of the fits of DSPS 0.4.8 to FSPS, for each IMF: surviving mass (a, d) and remnants (a).
_IMF = {
    "chabrier": (0.225, 0.145, -1.42),
    "kroupa": (0.211, 0.13, -1.45),
    "salpeter": (0.13, 0.055, -1.67),
    "van_dokkum": (0.238, 0.156, -1.4),
}
_TABLE = "ssp_surviving_mass"


class MassLoss(AbstractModel):
    """Share of the mass formed that survives. Write one method, `surviving`."""

    @abc.abstractmethod
    def surviving(self, lgmet: Float[Array, " met"], lg_age: Float[Array, " age"]) -> Float[Array, "#met age"]:
        """Mass left per mass formed, at metallicities log10(Z) and ages in log10 Gyr; one row if metallicity does not matter."""


@final
class ImfMassLoss(MassLoss):
    r"""Fits to FSPS for an initial mass function, the same for every metallicity (DSPS 0.4.8, `dsps.imf`).

    With x = log10(age / yr) and :math:`\sigma(x; x_0, k, lo, hi)` a sigmoid, the surviving mass is

    .. math:: 1 - \sigma(x; 6.5, 10^{0.7}, 0.005, a + \sigma(x; 8, 10^{-0.5}, d, 0.08) (x - 8))

    and remnants (white dwarfs, neutron stars, black holes) hold :math:`10^{a_r + \sigma(x; 7, 10, 1.3, 0.2) (x - 7)}` of the mass
    formed, a part of what survives. `remnants=False` leaves them out: living stars alone.

    **Fields:** `imf`, one of "chabrier", "kroupa", "salpeter", "van_dokkum", which should be that of the SSP library.
    """

    imf: str = eqx.field(static=True, default="chabrier")
    remnants: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        if self.imf not in _IMF:
            raise ValueError(f"ImfMassLoss.imf must be one of {', '.join(_IMF)}; got {self.imf!r}.")

    def surviving(self, lgmet, lg_age):
        x = lg_age + 9.0
        a, d, _ = _IMF[self.imf]
        lost = a + _sigmoid(x, 8.0, 10**-0.5, d, 0.08) * (x - 8.0)
        left = 1.0 - _sigmoid(x, 6.5, 10**0.7, 0.005, lost)
        return (left if self.remnants else left - remnant_fraction(lg_age, self.imf))[None, :]


@final
class TabulatedMassLoss(MassLoss):
    """Mass left per mass formed as an SSP library states it, on the library's own metallicities and ages.

    **Fields:** `lgmet` (met,), `lg_age` (age,), `table` (met, age), between 0 and 1. On other axes it is interpolated,
    linearly in lgmet and in lg_age.
    """

    lgmet: Float[Array, " met"] = data()
    lg_age: Float[Array, " age"] = data()
    table: Float[Array, "met age"] = data()

    def __check_init__(self):
        shapes = [np.shape(x) for x in (self.lgmet, self.lg_age, self.table)]
        if shapes[2] != (*shapes[0], *shapes[1]):
            raise ValueError(
                f"TabulatedMassLoss.table must have shape (met, age) = {shapes[0] + shapes[1]}; got {shapes[2]}."
            )
        if is_concrete(self.table):
            table = np.asarray(self.table)
            if not np.isfinite(table).all() or table.min() < 0 or table.max() > 1 + 1e-5:
                raise ValueError("TabulatedMassLoss.table must lie between 0 and 1, mass left per mass formed.")

    @classmethod
    def from_hdf5(cls, path: str | os.PathLike) -> "TabulatedMassLoss":
        """Read `ssp_surviving_mass` (met, age) of an SSP library, which `dspsx ssp` writes where the library has it.

        Raises FileNotFoundError or ValueError, naming the dataset, for a file without it."""
        keys = ("ssp_lgmet", "ssp_lg_age_gyr", _TABLE)
        with open_hdf5(path, "TabulatedMassLoss.from_hdf5", keys) as file:
            return cls(*(file[key][()] for key in keys))

    def surviving(self, lgmet, lg_age):
        # hat functions: a matrix product on each axis
        return _hats(lgmet, self.lgmet) @ self.table @ _hats(lg_age, self.lg_age).T


def remnant_fraction(lg_age: Float[Array, " age"], imf: str = "chabrier") -> Float[Array, " age"]:
    """Mass in remnants per mass formed at ages in log10 Gyr (see `ImfMassLoss`)."""
    x = lg_age + 9.0
    return pow10(_IMF[imf][2] + _sigmoid(x, 7.0, 10.0, 1.3, 0.2) * (x - 7.0))


def _sigmoid(x: Any, x0: float, k: float, lo: Any, hi: Any) -> Any:
    return lo + (hi - lo) * jax.nn.sigmoid(k * (x - x0))


def _hats(x, grid):
    """Weights (x, grid) of linear interpolation, held at the ends."""
    x = jnp.clip(x, grid[0], grid[-1])[:, None]
    left = jnp.concatenate([jnp.ones_like(x), (x - grid[None, :-1]) / jnp.diff(grid)[None]], axis=1)
    right = jnp.concatenate([(grid[None, 1:] - x) / jnp.diff(grid)[None], jnp.ones_like(x)], axis=1)
    return jnp.clip(jnp.minimum(left, right), 0.0, 1.0)
