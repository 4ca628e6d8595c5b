"""Dust made of other dust: by the age of the stars behind it, and a law whose bump goes with its slope."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp

from dspsx._model import Scalar, param
from dspsx._numerics import pow10, power, triweight_cdf
from dspsx.dust.attenuation import _RV, DustLaw, DustModel, PowerLawDust, drude, starburst_k


@final
class KriekConroy13(DustLaw):
    r"""Calzetti law with a tilt and a bump that goes with it: A = A_V (k + E_b D) (lambda / 5500 A)^delta / 4.05 with
    E_b = 0.85 - 1.9 delta, weaker in shallow curves (Kriek & Conroy 2013, ApJ 775, L16, eq. 3); `Noll09` with its bump tied."""

    av: Scalar = param(0.3, bounds=(0.0, 6.0), unit="mag", doc="attenuation in V")
    delta: Scalar = param(-0.2, bounds=(-1.6, 0.4), doc="power law that tilts the curve; negative is steeper")

    def attenuation(self, wave):
        centre, width = jnp.asarray(2175.0, wave.dtype), jnp.asarray(350.0, wave.dtype)
        bump = (0.85 - 1.9 * self.delta) * drude(wave, centre, width)
        k = (starburst_k(wave) + bump) * power(wave / 5500.0, self.delta)
        return self.av * jnp.maximum(k, 0.0) / _RV


@final
class CharlotFall00(DustModel):
    r"""Two components: all stars behind diffuse dust, young ones behind that of their birth clouds as well (Charlot & Fall
    2000, ApJ 539, 718).

    .. math:: T = T_{diffuse} \times \begin{cases} T_{cloud} & \log a < lg\_age\_cloud \\ 1 & \text{else} \end{cases}

    Any law for either; the default are power laws of slope -0.7, as in the paper, with twice the attenuation in the clouds.
    In bagpipes' convention the clouds have the law of the diffuse dust with (eta - 1) A_V, and end at t_bc without an edge.

    The edge is smooth, by a triweight kernel of standard deviation `edge` in log age, so that the age of the clouds has a
    gradient; 0.05 dex is the step of common SSP grids. The stars of each age of the grid, whose spectra are linear in log age
    between ages, are taken together.
    """

    diffuse: Any = eqx.field(default_factory=PowerLawDust)
    birth_cloud: Any = eqx.field(default_factory=lambda: PowerLawDust(av=0.6))
    lg_age_cloud: Scalar = param(
        -2.0, bounds=(-3.0, -1.0), unit="log10 Gyr", doc="age at which stars have left their birth clouds", free=False
    )
    edge: Scalar = param(0.05, bounds=(0.02, 0.5), unit="dex", doc="width of the transition", free=False)

    def __check_init__(self):
        for name in ("diffuse", "birth_cloud"):
            if not isinstance(getattr(self, name), DustLaw):
                raise TypeError(
                    f"CharlotFall00.{name} must be a DustLaw such as PowerLawDust(); got {getattr(self, name)!r}."
                )

    def screens(self, wave, lg_age):
        young = triweight_cdf((self.lg_age_cloud - lg_age) / self.edge)
        diffuse, cloud = (law.checked_attenuation(wave)[None, :] for law in (self.diffuse, self.birth_cloud))
        # not two rows put together: as one array of them it is one loop over a batch
        behind = jnp.asarray([[0.0], [1.0]], wave.dtype)
        return jnp.stack([1.0 - young, young]), pow10(-0.4 * (diffuse + behind * cloud))
