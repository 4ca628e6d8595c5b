"""Emission of dust: what it has absorbed, in the infrared."""

import abc
from typing import final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import units
from dspsx._model import AbstractModel, Scalar, param

#: h c / k in micron Kelvin.
_HC_K = 14387.769
#: ln of the wavelengths in micron over which `Casey12` is normalised by the trapezoidal rule, which for a smooth function that
#: has faded at both ends is far better than its name: 1e-5 with these.
_LN_WAVE = np.linspace(np.log(0.6), np.log(3e4), 80)
#: Micron. The power law of hot dust ends where dust does not survive.
_HOTTEST = 2.0


class DustEmission(AbstractModel):
    """Spectrum of the light that dust emits. Write one method, `spectrum`."""

    @abc.abstractmethod
    def spectrum(self, wave: Float[Array, " wave"]) -> Float[Array, " wave"]:
        """L_nu per unit of luminosity that the dust has absorbed, in 1/Hz, at rest-frame wavelengths in Angstrom: its integral
        over all frequencies is one."""


@final
class Casey12(DustEmission):
    r"""Modified blackbody of cold dust, and a power law of hotter dust in the mid-infrared (Casey 2012, MNRAS 425, 3094).

    .. math:: L_\nu \propto \frac{(1 - e^{-\tau(\lambda)}) \, \lambda^{-3}}{e^{hc/\lambda k T} - 1}
        + N (\lambda/\lambda_c)^\alpha e^{-(\lambda/\lambda_c)^2}, \quad \tau = (\lambda_0/\lambda)^\beta

    N is the blackbody's value at :math:`\lambda_c = 0.75 \, [(26.68 + 6.246 \alpha)^{-2} + (1.905 + 0.7243 \alpha) 10^{-4} T]^{-1}`
    micron, T in K. Here the power law ends at 2 micron, by a factor :math:`e^{-(2\,\mu m/\lambda)^2}`: hotter dust evaporates.
    There are no PAH bands (see `DraineLi07`), and the cosmic background does not heat the dust.
    """

    temperature: Scalar = param(35.0, bounds=(15.0, 100.0), unit="K", doc="temperature of the cold dust")
    beta: Scalar = param(1.6, bounds=(1.0, 2.5), doc="index of the emissivity")
    alpha: Scalar = param(2.0, bounds=(1.0, 4.0), doc="slope of the power law in the mid-infrared")
    thick: Scalar = param(
        200.0, bounds=(20.0, 1000.0), unit="micron", doc="wavelength below which the dust is opaque", free=False
    )

    def spectrum(self, wave):
        ln_wave = jnp.asarray(_LN_WAVE, wave.dtype)
        nodes = jnp.exp(ln_wave)
        width = float(_LN_WAVE[1] - _LN_WAVE[0]) * (units.C_ANGSTROM * 1e-4)
        whole = (self._shape(nodes) / nodes).sum() * width
        return self._shape(wave * 1e-4) / whole

    def _shape(self, micron: Float[Array, " wave"]) -> Float[Array, " wave"]:
        t, a = self.temperature, self.alpha
        joint = 0.75 / ((26.68 + 6.246 * a) ** -2 + (1.905e-4 + 7.243e-5 * a) * t)
        hot = (micron / joint) ** a * jnp.exp(-((micron / joint) ** 2) - (_HOTTEST / micron) ** 2)
        return self._cold(micron) + self._cold(joint) * hot

    def _cold(self, micron):
        x = _HC_K / (micron * self.temperature)
        # exp(-x) / (1 - exp(-x)): exp(x), and its square in a derivative, are beyond float32 in the Wien tail
        planck = (100.0 / micron) ** 3 * jnp.exp(-x) / jnp.expm1(-x)
        return jnp.expm1(-((self.thick / micron) ** self.beta)) * planck
