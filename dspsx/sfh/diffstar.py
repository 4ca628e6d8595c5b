"""Star formation histories of halos: the Diffstar model."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp

from dspsx._model import Scalar, param
from dspsx._numerics import pow10, triweight_cdf
from dspsx.sfh.base import StarFormationHistory, as_array
from dspsx.sfh.diffmah import DiffmahHalo, MassAccretionHistory

_EFFICIENCY_ROLL = 9.0
SFR_MIN = 1e-14


@final
class DiffstarSFH(StarFormationHistory):
    r"""Star formation in a growing halo: gas, a main-sequence efficiency, and one quenching event (Alarcon et al. 2023,
    MNRAS 518, 562; in the form of diffstar 1.0, where the gas mass is fb M_halo and stars form from it without delay).

    .. math:: SFR(t) = f_b M(t) \, 10^{lgy + s(M) (\log M - \log M_{crit})} \, Q(t)

    with s rolling from indx_lo to indx_hi at the critical mass, and Q falling from 1 to 10^lg_drop at time 10^lg_qt and
    rising to 10^lg_rejuv; the event lasts 10^qlglgdt dex of time. The rate is never below 1e-14 Msun/yr.
    """

    mah: MassAccretionHistory = eqx.field(default_factory=DiffmahHalo)
    lgmcrit: Scalar = param(12.0, bounds=(9.0, 13.5), unit="log10 Msun", doc="halo mass of the highest efficiency")
    lgy_at_mcrit: Scalar = param(-10.0, bounds=(-12.0, -8.0), unit="log10 1/yr", doc="efficiency at that mass")
    indx_lo: Scalar = param(1.0, bounds=(0.0, 5.0), doc="slope of the efficiency at lower mass")
    indx_hi: Scalar = param(-1.0, bounds=(-5.0, 0.0), doc="slope of the efficiency at higher mass")
    lg_qt: Scalar = param(1.0, bounds=(0.1, 2.0), unit="log10 Gyr", doc="time at which quenching is deepest")
    qlglgdt: Scalar = param(-0.50725, bounds=(-3.0, -0.01), unit="log10 dex", doc="duration of the quenching event")
    lg_drop: Scalar = param(-1.01773, bounds=(-3.0, 0.0), unit="dex", doc="depth of the quenching")
    lg_rejuv: Scalar = param(-0.212307, bounds=(-3.0, 0.0), unit="dex", doc="level after rejuvenation")
    fb: Scalar = param(0.156, bounds=(0.0, 1.0), doc="cosmic baryon fraction", free=False)

    def __check_init__(self):
        if not isinstance(self.mah, MassAccretionHistory):
            raise TypeError(f"DiffstarSFH.mah must be a MassAccretionHistory such as DiffmahHalo(); got {self.mah!r}.")

    def sfr(self, t):
        t = as_array(t)
        log_mass = self.mah.log_mah(t)
        if jnp.shape(log_mass) != t.shape:
            raise ValueError(
                f"{type(self.mah).__name__}.log_mah must return one mass for each time: shape {t.shape}; got {jnp.shape(log_mass)}."
            )
        above = log_mass - self.lgmcrit
        slope = self.indx_lo + (self.indx_hi - self.indx_lo) * jax.nn.sigmoid(_EFFICIENCY_ROLL * above)
        lg_sfr = log_mass + self.lgy_at_mcrit + slope * above + self._lg_quenching(jnp.log10(t))
        rate = self.fb * pow10(lg_sfr)
        return jnp.where(rate < SFR_MIN, SFR_MIN, rate)

    def breaks(self, t_obs):
        # the quenching function is made of two triweights; a fast one must not fall between the nodes of an age cell
        events = jnp.asarray([-6.0, -3.0, 0.0, 3.0, 6.0], t_obs.dtype)
        quench = pow10(self.lg_qt + self._quench_width() * events)
        # at the critical mass the rate of a halo that grows fast may turn from one steep power of time to another; it is smooth
        # there, so that derivatives need not follow
        turnover = jax.lax.stop_gradient(self.mah.times_of_mass(self.lgmcrit))
        return jnp.concatenate([quench, turnover, self.mah.breaks(t_obs)])

    def _quench_width(self):
        return pow10(self.qlglgdt) / 12.0

    def _lg_quenching(self, lgt):
        # the fall to lg_drop and the rise from it mirror each other, up to the level far from the event
        y = (lgt - self.lg_qt) / self._quench_width()
        level = jnp.where(y < 0, 0.0, self.lg_rejuv)
        return level + (self.lg_drop - level) * triweight_cdf(3.0 - jnp.abs(y))
