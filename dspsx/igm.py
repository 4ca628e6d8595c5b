"""What the gas between the galaxy and us absorbs."""

import abc
import math
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._model import AbstractModel, Number, Scalar, param
from dspsx._numerics import total

#: Vacuum wavelength of Lyman alpha in Angstrom: hydrogen absorbs nothing redward of it.
LYMAN_ALPHA = 1215.67


class IGM(AbstractModel):
    """Absorption by the intergalactic medium. Write one method, `transmission`."""

    @abc.abstractmethod
    def transmission(self, wave: Float[Array, " wave"], redshift: Scalar) -> Float[Array, " wave"]:
        """Fraction of the light emitted at rest-frame wavelengths in Angstrom by a source at `redshift` that reaches us."""


@final
class Madau95(IGM):
    r"""Mean absorption by hydrogen along the line of sight, T = exp(-scale tau) (Madau 1995, ApJ 441, 18): see
    `madau95_optical_depth`. Inoue et al. (2014) find its Lyman continuum too strong by more than 0.5 mag at z > 3."""

    scale: Scalar = param(
        1.0, bounds=(0.0, 3.0), doc="factor of the optical depth; sightlines scatter widely", free=False
    )

    def transmission(self, wave, redshift):
        return jnp.exp(-self.scale * madau95_optical_depth(wave, redshift))


@final
class Inoue14(IGM):
    r"""Mean absorption by hydrogen along the line of sight, T = exp(-scale tau) (Inoue et al. 2014, MNRAS 442, 1805): see
    `inoue14_optical_depth`."""

    scale: Scalar = param(
        1.0, bounds=(0.0, 3.0), doc="factor of the optical depth; sightlines scatter widely", free=False
    )

    def transmission(self, wave, redshift):
        return jnp.exp(-self.scale * inoue14_optical_depth(wave, redshift))


@final
class DampingWing(IGM):
    r"""Any other absorption, times the Lyman alpha damping wing of gas not yet reionised between `z_end` and the edge of an
    ionised bubble around the source (Miralda-Escude 1998, ApJ 501, 15): see `damping_wing_optical_depth`."""

    igm: IGM = eqx.field(default_factory=Inoue14)
    x_hi: Scalar = param(0.5, bounds=(0.0, 1.0), doc="neutral fraction of hydrogen outside the bubble")
    bubble: Scalar = param(
        0.0, bounds=(0.0, 150.0), unit="Mpc", doc="comoving distance to the bubble's edge", free=False
    )
    z_end: Scalar = param(5.5, bounds=(4.0, 15.0), doc="redshift below which no gas is neutral", free=False)

    def __check_init__(self):
        if not isinstance(self.igm, IGM):
            raise TypeError(f"DampingWing.igm must be an IGM such as Inoue14(); got {self.igm!r}.")

    def transmission(self, wave, redshift):
        tau = self.x_hi * damping_wing_optical_depth(wave, redshift, self.bubble, self.z_end)
        return self.igm.transmission(wave, redshift) * jnp.exp(-tau)


def _sum_between(low, high, lines: np.ndarray, numbers: np.ndarray):
    """For each wavelength the sum of the `numbers` of those lines that lie above `low`, and not above `high`."""
    lines, numbers = lines.astype(low.dtype), numbers.astype(low.dtype)
    none = np.zeros((), low.dtype)
    # comparisons are written alike wherever they are the same, so that the compiler makes each once
    return total(
        jnp.where((low < line) & ~(high < line), number, none) for line, number in zip(lines, numbers, strict=True)
    )


#: Coefficients A of Madau (1995) for Lyman lines 2 to 18. The paper prints the first four, rounded (36, 17, 12, 9.3); the
#: higher ones are those in common use (FSPS, Stuff).
_MADAU = 1e-4 * np.array(
    [36.0, 17.0, 11.846, 9.41, 7.96, 6.967, 6.236, 5.665, 5.2, 4.817, 4.487, 4.2, 3.947, 3.72, 3.52, 3.334, 3.1644]
)
_MADAU_LIMIT = 911.75


def madau95_optical_depth(wave: Float[Array, " wave"], redshift: Number) -> Float[Array, " wave"]:
    r"""Effective optical depth of Madau (1995): :math:`\sum_j A_j (\lambda_{obs}/\lambda_j)^{3.46}` of 17 Lyman lines (eq. 15),
    metals :math:`0.0017 (\lambda_{obs}/\lambda_\alpha)^{1.68}`, and photoelectric absorption in the approximation of the paper's
    footnote 3 to the integral of its eq. 16 (mostly within 5 % of it, 9 % next to the Lyman limit).

    A line absorbs where some gas between us and the source has it at the observed wavelength. Observed blueward of
    the Lyman limit, where the paper's formula ends, the integral over redshift starts at z = 0.
    """
    z1 = 1.0 + redshift
    ratio = jnp.minimum(wave, LYMAN_ALPHA) / _MADAU_LIMIT
    x, observed = ratio * z1, wave * z1
    z46, z18 = z1**0.46, z1**0.18
    # powers of the observed wavelength are made of those of the rest frame's, which galaxies share
    x46, x18, x15, x3 = ratio**0.46 * z46, ratio**0.18 * z18, x * jnp.sqrt(x), x * x * x
    lines = _INOUE[0, : _MADAU.size]
    tau = x3 * x46 * _sum_between(wave, observed, lines, _MADAU * (_MADAU_LIMIT / lines) ** 3.46)
    metals = 0.0017 * (_MADAU_LIMIT / LYMAN_ALPHA) ** 1.68
    tau = tau + jnp.where((wave < LYMAN_ALPHA) & (observed >= LYMAN_ALPHA), metals * x15 * x18, 0.0)
    # absorbers from 1 + z = start on
    start, s46, s18 = jnp.maximum(x, 1.0), jnp.maximum(x46, 1.0), jnp.maximum(x18, 1.0)
    s15 = start * jnp.sqrt(start)
    continuum = (
        0.25 * x3 * (z46 - s46)
        + 9.4 * x15 * (z18 - s18)
        - 0.7 * x3 * (s18 / s15 - z1**-1.32)
        - 0.023 * (z1**1.68 - s15 * s18)
    )
    # below some 40 A the approximation turns negative
    return tau + jnp.where((wave >= _MADAU_LIMIT) | (continuum < 0), 0.0, continuum)


#: Table 2 of Inoue et al. (2014), of Lyman lines 2 to 40: wavelength in Angstrom; A of the forest in its three ranges of
#: redshift; A of damped systems in their two.
_INOUE = np.array(
    [
        [1215.67, 1.68976e-02, 2.35379e-03, 1.02611e-04, 1.61698e-04, 5.38995e-05],
        [1025.72, 4.69229e-03, 6.53625e-04, 2.84940e-05, 1.54539e-04, 5.15129e-05],
        [972.537, 2.23898e-03, 3.11884e-04, 1.35962e-05, 1.49767e-04, 4.99222e-05],
        [949.743, 1.31901e-03, 1.83735e-04, 8.00974e-06, 1.46031e-04, 4.86769e-05],
        [937.803, 8.70656e-04, 1.21280e-04, 5.28707e-06, 1.42893e-04, 4.76312e-05],
        [930.748, 6.17843e-04, 8.60640e-05, 3.75186e-06, 1.40159e-04, 4.67196e-05],
        [926.226, 4.60924e-04, 6.42055e-05, 2.79897e-06, 1.37714e-04, 4.59048e-05],
        [923.15, 3.56887e-04, 4.97135e-05, 2.16720e-06, 1.35495e-04, 4.51650e-05],
        [920.963, 2.84278e-04, 3.95992e-05, 1.72628e-06, 1.33452e-04, 4.44841e-05],
        [919.352, 2.31771e-04, 3.22851e-05, 1.40743e-06, 1.31561e-04, 4.38536e-05],
        [918.129, 1.92348e-04, 2.67936e-05, 1.16804e-06, 1.29785e-04, 4.32617e-05],
        [917.181, 1.62155e-04, 2.25878e-05, 9.84689e-07, 1.28117e-04, 4.27056e-05],
        [916.429, 1.38498e-04, 1.92925e-05, 8.41033e-07, 1.26540e-04, 4.21799e-05],
        [915.824, 1.19611e-04, 1.66615e-05, 7.26340e-07, 1.25041e-04, 4.16804e-05],
        [915.329, 1.04314e-04, 1.45306e-05, 6.33446e-07, 1.23614e-04, 4.12046e-05],
        [914.919, 9.17397e-05, 1.27791e-05, 5.57091e-07, 1.22248e-04, 4.07494e-05],
        [914.576, 8.12784e-05, 1.13219e-05, 4.93564e-07, 1.20938e-04, 4.03127e-05],
        [914.286, 7.25069e-05, 1.01000e-05, 4.40299e-07, 1.19681e-04, 3.98938e-05],
        [914.039, 6.50549e-05, 9.06198e-06, 3.95047e-07, 1.18469e-04, 3.94896e-05],
        [913.826, 5.86816e-05, 8.17421e-06, 3.56345e-07, 1.17298e-04, 3.90995e-05],
        [913.641, 5.31918e-05, 7.40949e-06, 3.23008e-07, 1.16167e-04, 3.87225e-05],
        [913.48, 4.84261e-05, 6.74563e-06, 2.94068e-07, 1.15071e-04, 3.83572e-05],
        [913.339, 4.42740e-05, 6.16726e-06, 2.68854e-07, 1.14011e-04, 3.80037e-05],
        [913.215, 4.06311e-05, 5.65981e-06, 2.46733e-07, 1.12983e-04, 3.76609e-05],
        [913.104, 3.73821e-05, 5.20723e-06, 2.27003e-07, 1.11972e-04, 3.73241e-05],
        [913.006, 3.45377e-05, 4.81102e-06, 2.09731e-07, 1.11002e-04, 3.70005e-05],
        [912.918, 3.19891e-05, 4.45601e-06, 1.94255e-07, 1.10051e-04, 3.66836e-05],
        [912.839, 2.97110e-05, 4.13867e-06, 1.80421e-07, 1.09125e-04, 3.63749e-05],
        [912.768, 2.76635e-05, 3.85346e-06, 1.67987e-07, 1.08220e-04, 3.60734e-05],
        [912.703, 2.58178e-05, 3.59636e-06, 1.56779e-07, 1.07337e-04, 3.57789e-05],
        [912.645, 2.41479e-05, 3.36374e-06, 1.46638e-07, 1.06473e-04, 3.54909e-05],
        [912.592, 2.26347e-05, 3.15296e-06, 1.37450e-07, 1.05629e-04, 3.52096e-05],
        [912.543, 2.12567e-05, 2.96100e-06, 1.29081e-07, 1.04802e-04, 3.49340e-05],
        [912.499, 1.99967e-05, 2.78549e-06, 1.21430e-07, 1.03991e-04, 3.46636e-05],
        [912.458, 1.88476e-05, 2.62543e-06, 1.14452e-07, 1.03198e-04, 3.43994e-05],
        [912.42, 1.77928e-05, 2.47850e-06, 1.08047e-07, 1.02420e-04, 3.41402e-05],
        [912.385, 1.68222e-05, 2.34330e-06, 1.02153e-07, 1.01657e-04, 3.38856e-05],
        [912.353, 1.59286e-05, 2.21882e-06, 9.67268e-08, 1.00908e-04, 3.36359e-05],
        [912.324, 1.50996e-05, 2.10334e-06, 9.16925e-08, 1.00168e-04, 3.33895e-05],
    ]
).T
_INOUE_LIMIT = 911.8


def inoue14_optical_depth(wave: Float[Array, " wave"], redshift: Number) -> Float[Array, " wave"]:
    r"""Effective optical depth of Inoue et al. (2014): Lyman series of the forest (eq. 21) and of damped systems (22), Lyman
    continuum of the forest (25-27) and of damped systems (28-29).

    A line absorbs where some gas between us and the source has it at the observed wavelength. Observed blueward of
    the Lyman limit, where the paper's formulae end, their integral over redshift starts at z = 0.
    """
    z1 = 1.0 + redshift
    ratio = jnp.minimum(wave, LYMAN_ALPHA) / _INOUE_LIMIT
    x, observed = ratio * z1, wave * z1
    # one power, of the rest-frame wavelength, which galaxies share: the others are products
    x03 = ratio**0.3 * z1**0.3
    x06, x2, root = x03 * x03, x * x, jnp.sqrt(x)
    x12, x3 = x06 * x06, x2 * x
    x21, x37, x55 = x12 * x06 * x03, x12 * x2 * root, x2 * x3 * root

    # the power law of a line depends on the redshift at which it absorbs: cuts in the wavelengths of lines
    cut22, cut30, cut57 = (wave * jnp.maximum(z1 / cut, 1.0) for cut in (2.2, 3.0, 5.7))
    lines, *numbers = _INOUE
    pieces = [
        (1.2, x12, cut22, observed),
        (3.7, x37, cut57, cut22),
        (5.5, x55, wave, cut57),
        (2.0, x2, cut30, observed),
        (3.0, x3, wave, cut30),
    ]
    series = total(
        power * _sum_between(low, high, lines, a * (_INOUE_LIMIT / lines) ** p)
        for a, (p, power, low, high) in zip(numbers, pieces, strict=True)
    )

    # the continuum is an integral over 1 + z, from x (or from 1) to that of the source: differences of like terms, so
    # that it is exactly zero at z = 0
    early, late = 5.221e-4 * z1**3.4 - 3.140e-2, 2.545e-2 * z1**1.6 - 0.2496
    end = jnp.where(z1 < 2.2, -0.3248 * z1**-0.9, jnp.where(z1 < 5.7, late, early))
    start = jnp.where(x < 1.0, -0.3248, jnp.where(x < 2.2, 0.0, jnp.where(x < 5.7, -0.2496, -3.140e-2)))
    rest = jnp.where(x < 2.2, -0.3248 * x12, jnp.where(x < 5.7, 2.545e-2 * x37, 5.221e-4 * x55))
    forest = x21 * (end - start) - jnp.where(x < 1.0, 0.0, rest)

    near = z1 < 3.0
    end = jnp.where(near, 0.2113 * z1**2, 0.6340 + 0.04696 * z1**3)
    start = jnp.where(x < 1.0, 0.2113, jnp.where(x < 3.0, 0.1347 * x2, 0.6340 + 0.02916 * x3))
    thin_end = jnp.where(near, 0.07661 * z1**2.3, 0.2905 + 0.01779 * z1**3.3)
    thin_start = jnp.where(x < 1.0, 0.07661, jnp.where(x < 3.0, 0.0, 0.2905))
    damped = (end - start) - (thin_end - thin_start) / x03
    # below some 50 A the approximation turns negative
    continuum = forest + jnp.where(damped < 0, 0.0, damped)
    return series + jnp.where((wave >= _INOUE_LIMIT) | (continuum < 0), 0.0, continuum)


#: Gunn-Peterson optical depth of neutral hydrogen of the mean density at 1 + z = 7 (Omega_b h^2 = 0.0224, Omega_m h^2 =
#: 0.142, helium 0.245 by mass), growing as (1 + z)^1.5; the natural width of Lyman alpha over four pi times its frequency.
_GUNN_PETERSON, _WIDTH = 3.85e5, 2.02e-8
#: H(z) / [c (1 + z)^1.5] in 1/Mpc, for Omega_m h^2 = 0.142.
_HUBBLE = 100.0 * math.sqrt(0.142) / 299792.458


def damping_wing_optical_depth(
    wave: Float[Array, " wave"], redshift: Number, bubble: Number, z_end: Number
) -> Float[Array, " wave"]:
    r"""Optical depth in Lyman alpha of neutral gas between `z_end` and the edge of a bubble of comoving radius `bubble` in Mpc,

    .. math:: \tau = \tau_{GP} \frac{R_\alpha}{\pi} \left(\frac{1 + z_{obs}}{1 + z}\right)^{3/2} \int \frac{x^{9/2}}{(1 - x)^2} dx,
              \quad x = \frac{1 + z'}{1 + z_{obs}}, \quad 1 + z_{obs} = (1 + z) \frac{\lambda}{\lambda_\alpha}

    (Miralda-Escude 1998). The integral is singular where gas absorbs in the line's centre: there it is held at
    the Gunn-Peterson optical depth, of some 4e5.
    """
    z1 = 1.0 + redshift
    near = wave < 10.0 * LYMAN_ALPHA
    wave = jnp.where(near, wave, 2.0 * LYMAN_ALPHA)
    ratio = LYMAN_ALPHA / wave
    gap = _HUBBLE * bubble * jnp.sqrt(z1)
    # 1 - x of the near and of the far end: the differences are taken where float32 keeps them
    first = (wave - LYMAN_ALPHA) / wave + gap * ratio
    last = first + jnp.maximum(redshift - z_end - gap * z1, 0.0) / z1 * ratio
    seen = z1 / (7.0 * ratio)
    scale = _GUNN_PETERSON * _WIDTH / math.pi * seen * jnp.sqrt(seen)
    return jnp.where(near, scale * (_wing_integral(first) - _wing_integral(last)), 0.0)


def _wing_integral(y):
    """Integral of x^4.5 / (1 - x)^2 dx at x = 1 - y (Miralda-Escude 1998)."""
    y = jnp.maximum(y, _WIDTH / math.pi)
    x = 1.0 - y
    root = jnp.sqrt(x)
    powers = root * (9.0 + x * (3.0 + x * (9.0 / 5.0 + x * (9.0 / 7.0 + x / y))))
    return powers - 4.5 * jnp.log((1.0 + root) ** 2 / y)
