"""A star formation history given as a table."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import _dsps
from dspsx._model import data, is_concrete, param
from dspsx.sfh.base import StarFormationHistory
from dspsx.sfh.quadrature import hat_age_weights


@final
class TabulatedSFH(StarFormationHistory):
    r"""Star formation rate tabulated at cosmic times, linear in between, rising from zero at t = 0 to the first entry.

    By default the table is integrated exactly against the hat functions of the SSP ages (every entry is a break of the
    quadrature). After the last entry the rate keeps its last value, and `GalaxySEDModel` warns when it is observed later.

    `scheme="dsps"` gives the weights of DSPS 0.4.8: the cumulative mass, interpolated linearly in (log t, log M), is
    differenced between DSPS's age bins, normalised, and multiplied by the mass formed by t_obs (Hearin et al. 2023, MNRAS
    521, 1741, section 2). In float32 that definition loses young stars: at 1 Myr it is wrong by a factor of two and more.

    **Fields:** `t_table` (t,) Gyr, increasing, positive, shared by all galaxies of a batch; `sfr_table` (t,) Msun/yr.
    """

    t_table: Float[Array, " t"] = data()
    sfr_table: Float[Array, " t"] = param(
        bounds=(0.0, None),
        unit="Msun/yr",
        doc="star formation rate at each time of the table",
        free=False,
        ndim=1,
    )
    scheme: str = eqx.field(static=True, default="hat")

    def __check_init__(self):
        if self.scheme not in ("hat", "dsps"):
            raise ValueError(f"TabulatedSFH.scheme must be 'hat' or 'dsps'; got {self.scheme!r}.")
        for name in ("t_table", "sfr_table"):
            if not eqx.is_inexact_array(getattr(self, name)):
                raise TypeError(f"TabulatedSFH.{name} must be an array of numbers; got {getattr(self, name)!r}.")
        if self.t_table.ndim != 1 or self.t_table.shape != self.sfr_table.shape:
            raise ValueError(
                f"TabulatedSFH needs t_table and sfr_table of one length; got shapes {self.t_table.shape} and "
                f"{self.sfr_table.shape}."
            )
        if is_concrete(self.t_table):
            t = np.asarray(self.t_table)
            if t.size < 2 or not np.isfinite(t).all() or (np.diff(t) <= 0).any() or t[0] <= 0:
                raise ValueError(
                    "TabulatedSFH.t_table must hold at least two finite, positive, strictly increasing times in Gyr."
                )
            if t[-1] > 100:
                raise ValueError(f"TabulatedSFH.t_table reaches {t[-1]:g}; expected cosmic time in Gyr.")

    def sfr(self, t):
        zero = jnp.zeros(1, self.t_table.dtype)
        times, rates = jnp.concatenate([zero, self.t_table]), jnp.concatenate([zero, self.sfr_table])
        return jnp.interp(t, times, rates)

    def breaks(self, t_obs):
        return self.t_table

    def known_until(self):
        return self.t_table[-1]

    def age_weights(self, lg_age, t_obs):
        t_obs = jnp.asarray(t_obs, lg_age.dtype)
        if self.scheme == "dsps":
            return _dsps.age_weights(self.t_table, self.sfr_table, lg_age, t_obs)
        return hat_age_weights(self, lg_age, t_obs)
