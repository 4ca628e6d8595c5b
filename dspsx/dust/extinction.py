"""Extinction curves measured towards stars of the Milky Way and the Magellanic Clouds, as screens of dust.

Every curve is defined at every wavelength. Below the Lyman limit at 912 A, where none was measured, it keeps the value it has
there; between there and the end of its data (1000 A, but for `Gordon23`) it follows its own formula, and so it does in the
infrared, where all of them end in a power law that goes to zero.
"""

from typing import Any, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._model import Scalar, param
from dspsx._numerics import matmul, total
from dspsx.dust.attenuation import DustLaw

#: Inverse micron at the Lyman limit: bluer light is absorbed as much as this.
_BLUEST = 1e4 / 912.0


@final
class CCM89(DustLaw):
    r"""Milky Way: A = A_V [a(x) + b(x) / R_V], x = 1 micron / lambda (Cardelli, Clayton & Mathis 1989, ApJ 345, 245).

    Made for 0.1-3.3 micron and R_V = 2-6. Beyond: A goes on as lambda^-1.61 in the infrared; the formula of the far UV is
    followed to 912 A, and A is constant below. The published formulas leave steps of 0.18 % (R_V = 2) to 0.001 % (R_V = 6) at
    0.91 micron, and of at most 0.02 % at 0.303 and 0.125 micron.
    """

    av: Scalar = param(0.3, bounds=(0.0, 6.0), unit="mag", doc="extinction in V")
    rv: Scalar = param(3.1, bounds=(2.0, 6.0), doc="R_V = A_V / E(B-V)", free=False)

    def attenuation(self, wave):
        return matmul(self.av * _powers(self.rv)[:2], ccm89_terms(wave))


@final
class ODonnell94(DustLaw):
    r"""Milky Way: `CCM89` with the optical polynomials, 0.303-0.91 micron, of O'Donnell (1994, ApJ 422, 158).

    Beyond 0.1-3.3 micron as `CCM89`. The published formulas leave a step of 0.3 % (R_V = 2) to 0.9 % (R_V = 6) at 0.303 micron,
    and one of at most 0.16 % at 0.91 micron.
    """

    av: Scalar = param(0.3, bounds=(0.0, 6.0), unit="mag", doc="extinction in V")
    rv: Scalar = param(3.1, bounds=(2.0, 6.0), doc="R_V = A_V / E(B-V)", free=False)

    def attenuation(self, wave):
        return matmul(self.av * _powers(self.rv)[:2], odonnell94_terms(wave))


@final
class Fitzpatrick99(DustLaw):
    r"""Milky Way: a formula below 0.27 micron, a cubic spline above (Fitzpatrick 1999, PASP 111, 63, Tables 3 and 4; +1.208 where
    Table 4 has -1.208, which does not reproduce Table 3).

    Made for 0.1-3.5 micron and R_V = 2-6. Beyond: the spline has a knot of zero extinction at infinite wavelength, to which A
    goes as 1 / lambda; the formula is followed to 912 A, and A is constant below. R_V = 3.1 gives 0.978 A_V at 5500 A.
    """

    av: Scalar = param(0.3, bounds=(0.0, 6.0), unit="mag", doc="extinction in V")
    rv: Scalar = param(3.1, bounds=(2.0, 6.0), doc="R_V = A_V / E(B-V)", free=False)

    def attenuation(self, wave):
        return matmul(self.av * _powers(self.rv), fitzpatrick99_terms(wave))


@final
class Gordon23(DustLaw):
    r"""Milky Way, from the far UV to the silicates of the mid-infrared: A = A_V [a + b (1 / R_V - 1 / 3.1)] (Gordon et al. 2023,
    ApJ 950, 86), divided by 0.9854 as in dust_extinction, so that A = A_V in V.

    Made for 912 A to 32 micron and R_V = 2.3-5.6. Beyond: the formula's own wings of the silicates, lambda^-2, on its power law,
    lambda^-0.79, in the far infrared; constant below 912 A.
    """

    av: Scalar = param(0.3, bounds=(0.0, 6.0), unit="mag", doc="extinction in V")
    rv: Scalar = param(3.1, bounds=(2.3, 5.6), doc="R_V = A_V / E(B-V)", free=False)

    def attenuation(self, wave):
        coefficients = jnp.stack([jnp.ones_like(self.rv), 1.0 / self.rv - 1.0 / 3.1])
        return matmul(self.av * coefficients, gordon23_terms(wave))


@final
class Gordon03SMC(DustLaw):
    r"""Bar of the Small Magellanic Cloud, without a bump at 2175 A (Gordon et al. 2003, ApJ 594, 279; R_V = 2.74; 1.25 and 2.2
    micron as smoothed in Gordon et al. 2016, ApJ 826, 104).

    Made for 0.116-2.2 micron. Beyond: a spline to zero at infinite wavelength, to which A goes as 1 / lambda; the formula of the
    UV is followed to 912 A, and A is constant below.
    """

    av: Scalar = param(0.3, bounds=(0.0, 6.0), unit="mag", doc="extinction in V")

    def attenuation(self, wave):
        return self.av * gordon03_smc_shape(wave)


@final
class Gordon03LMC(DustLaw):
    r"""Average of the Large Magellanic Cloud (Gordon et al. 2003, ApJ 594, 279; R_V = 3.41; 2.2 micron as smoothed in Gordon et
    al. 2016, ApJ 826, 104).

    Made for 0.123-2.2 micron, and continued as `Gordon03SMC`.
    """

    av: Scalar = param(0.3, bounds=(0.0, 6.0), unit="mag", doc="extinction in V")

    def attenuation(self, wave):
        return self.av * gordon03_lmc_shape(wave)


def inverse_micron(wave: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1 micron / lambda, held at that of the Lyman limit for bluer light."""
    return jnp.minimum(1e4 / wave, _BLUEST)


# A / A_V is a sum of products of R_V and wavelength. As a matrix product of the two it leaves the functions of wavelength to
# all galaxies of a batch: 3-10 times faster than the sum, which the compiler evaluates for each galaxy.


def _powers(rv):
    inverse = 1.0 / rv
    return jnp.stack([jnp.ones_like(rv), inverse, inverse * inverse, rv])


def ccm89_terms(wave: Float[Array, "*shape"]) -> Float[Array, "2 *shape"]:
    """a and b of Cardelli, Clayton & Mathis (1989), eqs. 2-5."""
    optical = (
        (1.0, 0.17699, -0.50447, -0.02427, 0.72085, 0.01979, -0.7753, 0.32999),
        (0.0, 1.41338, 2.28305, 1.07233, -5.38434, -0.62251, 5.3026, -2.09002),
    )
    return _ccm(inverse_micron(wave), optical)


def odonnell94_terms(wave: Float[Array, "*shape"]) -> Float[Array, "2 *shape"]:
    """a and b of Cardelli, Clayton & Mathis (1989) with the optical polynomials of O'Donnell (1994)."""
    optical = (
        (1.0, 0.104, -0.609, 0.701, 1.137, -1.718, -0.827, 1.647, -0.505),
        (0.0, 1.952, 2.908, -3.989, -7.985, 11.102, 5.491, -10.805, 3.347),
    )
    return _ccm(inverse_micron(wave), optical)


def _ccm(x, optical):
    infrared = x**1.61
    y = x - 1.82
    rise = jnp.maximum(x - 5.9, 0.0)
    far = x - 8.0
    a = (
        0.574 * infrared,
        _polynomial(y, optical[0]),
        1.752 - 0.316 * x - 0.104 / ((x - 4.67) ** 2 + 0.341) - rise * rise * (0.04473 + 0.009779 * rise),
        _polynomial(far, (-1.073, -0.628, 0.137, -0.07)),
    )
    b = (
        -0.527 * infrared,
        _polynomial(y, optical[1]),
        -3.09 + 1.825 * x + 1.206 / ((x - 4.62) ** 2 + 0.263) + rise * rise * (0.213 + 0.1207 * rise),
        _polynomial(far, (13.67, 4.257, -0.42, 0.374)),
    )
    return jnp.stack([_pieces(x, a), _pieces(x, b)])


def _pieces(x, parts):
    infrared, optical, ultraviolet, far = parts
    return jnp.where(x < 1.1, infrared, jnp.where(x < 3.3, optical, jnp.where(x <= 8.0, ultraviolet, far)))


def _polynomial(x, coefficients):
    """Horner's rule; the constant comes first."""
    value = coefficients[-1] * jnp.ones_like(x)
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


def _drude(x, centre, width) -> Any:
    """Drude profile of unit height, in wavelengths or wavenumbers."""
    ratio = (x - centre * centre / x) / width
    return 1.0 / (1.0 + ratio * ratio)


def _smoothstep(x, lo, hi):
    t = jnp.clip((x - lo) / (hi - lo), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def gordon23_terms(wave: Float[Array, "*shape"]) -> Float[Array, "2 *shape"]:
    """a and b of Gordon et al. (2023), divided by 0.9854."""
    x = inverse_micron(wave)
    micron = 1.0 / x
    # infrared: two power laws that meet between 1.9 and 6.7 micron, and two features of silicates
    turn = 4.30578
    near = 0.38526 * micron**-1.68467
    far = 0.38526 * turn ** (0.78791 - 1.68467) * micron**-0.78791
    to_far = _smoothstep(micron, turn - 0.5 * 4.78338, turn + 0.5 * 4.78338)
    infrared = near + to_far * (far - near)
    for height, centre, width, asymmetry in ((0.06652, 9.8434, 2.21205, -0.24703), (0.0267, 19.58294, 17.0, -0.27)):
        skewed = 2.0 * width / (1.0 + jnp.exp(asymmetry * (micron - centre)))
        infrared = infrared + height * _drude(micron, centre, skewed)
    # optical, with features at 4370, 4870 and 6300 A
    shapes = [_drude(x, centre, width) for centre, width in ((2.288, 0.243), (2.054, 0.179), (1.587, 0.243))]
    optical_a = _polynomial(x, (-0.35848, 0.7122, 0.08746, -0.05403, 0.00674))
    optical_a = optical_a + 0.03893 * shapes[0] + 0.02965 * shapes[1] + 0.01747 * shapes[2]
    optical_b = _polynomial(x, (0.12354, -2.68335, 2.01901, -0.39299, 0.03355))
    optical_b = optical_b + 0.18453 * shapes[0] + 0.19728 * shapes[1] + 0.1713 * shapes[2]
    uv_a = fm90(x, 0.81297, 0.2775, 1.06295, 0.11303, 4.6, 0.99)
    uv_b = fm90(x, -2.97868, 1.89808, 3.10334, 0.65484, 4.6, 0.99)
    to_optical, to_infrared = _smoothstep(micron, 0.3, 0.33), _smoothstep(micron, 0.9, 1.1)

    def joined(uv, optical, infrared):
        blue = uv + to_optical * (optical - uv)
        return (blue + to_infrared * (infrared - blue)) / 0.9854

    return jnp.stack([joined(uv_a, optical_a, infrared), joined(uv_b, optical_b, -1.01251 * x**1.06099)])


def fm90(x: Float[Array, "*shape"], c1: float, c2: float, c3: float, c4: float, x0: float, gamma: float):
    """Curve of the UV with a bump at x0 and a rise from 5.9 / micron on (Fitzpatrick & Massa 1990, ApJS 72, 163), at wavenumbers
    x in 1 / micron."""
    rise = jnp.maximum(x - 5.9, 0.0)
    bump = c3 / (gamma * gamma) * _drude(x, x0, gamma)
    return c1 + c2 * x + bump + c4 * rise * rise * (0.5392 + 0.05644 * rise)


#: Wavenumber at 0.27 micron: the formula of the UV is used from here on, and the spline is tied to its values at two points.
_UV, _ANCHOR = 1e4 / 2700.0, 1e4 / 2600.0


def _natural_spline(x: np.ndarray, y: np.ndarray) -> list[tuple[float, ...]]:
    """Natural cubic spline through (0, 0) and points of x > 0, up to the last but one: for each cell its start, its width h and
    b, c, d of what is added in it, b u + c u^2 + d u^3 with u = x - start in 0 ... h."""
    x, y = np.concatenate([[0.0], x]), np.concatenate([[0.0], y])
    h, slope = np.diff(x), np.diff(y) / np.diff(x)
    system = np.diag(2.0 * (h[:-1] + h[1:])) + np.diag(h[1:-1], 1) + np.diag(h[1:-1], -1)
    bend = np.concatenate([[0.0], np.linalg.solve(system, 6.0 * np.diff(slope)), [0.0]])
    b = slope - h * (2.0 * bend[:-1] + bend[1:]) / 6.0
    cells = np.stack([x[:-1], h, b, 0.5 * bend[:-1], np.diff(bend) / (6.0 * h)], axis=1)[:-1]
    return [tuple(cell) for cell in cells.tolist()]


def _evaluate(spline, x):
    """The spline at x, held beyond its end. A sum over cells needs neither a search nor a gather, and no cell cancels another."""

    def added(start, h, b, c, d):
        u = jnp.clip(x - start, 0.0, h)
        return u * (b + u * (c + u * d))

    return total(added(*cell) for cell in spline)


# Fitzpatrick (1999): A / A_V is a sum of functions of wavelength times 1, 1 / R_V, 1 / R_V^2 and R_V.
_FM_OF_POWERS = (
    (0.0, 0.0, 0.0, 0.0),
    (2.03 + 3.007 * 0.824, -0.824, 3.23, 0.41),
    (-3.007 * 4.717, 4.717, 0.0, 0.0),
)
_F99_KNOTS = np.array([*(1e4 / np.array([26500.0, 12200.0, 6000.0, 5470.0, 4670.0, 4110.0])), _UV, _ANCHOR])


def _f99_splines() -> list[list[tuple[float, ...]]]:
    values = np.zeros((4, 8))
    values[0] = [0.265 / 3.1, 0.829 / 3.1, 1.0044, 1.0016, 1.0016, 1.0032, 1.0, 1.0]
    values[1, 2:6] = -0.426, -0.05, 0.701, 1.208
    values[3, 5] = -0.00033
    for row, (c1, c2, c3, _) in zip(values[:3], _FM_OF_POWERS, strict=True):
        uv = _F99_KNOTS[6:]
        row[6:] += c1 + c2 * uv + c3 * uv**2 / ((uv**2 - 4.596**2) ** 2 + (0.99 * uv) ** 2)
    return [_natural_spline(_F99_KNOTS, row) for row in values]


_F99 = _f99_splines()


def fitzpatrick99_terms(wave: Float[Array, "*shape"]) -> Float[Array, "4 *shape"]:
    """What 1, 1 / R_V, 1 / R_V^2 and R_V are multiplied with in A / A_V of Fitzpatrick (1999)."""
    x = inverse_micron(wave)
    uv = [fm90(x, *c, 4.596, 0.99) for c in _FM_OF_POWERS]
    uv = [1.0 + uv[0], uv[1], uv[2], jnp.zeros_like(x)]
    return jnp.stack([jnp.where(x < _UV, _evaluate(spline, x), far) for spline, far in zip(_F99, uv, strict=True)])


#: Gordon et al. (2003): R_V, and c1, c2, c3, c4, x0, gamma of the UV; points of the spline in micron, and their A / A_V.
_SMC = (2.74, (-4.959, 2.264, 0.389, 0.461, 4.6, 1.0))
_SMC_POINTS = (
    (2.198, 1.65, 1.25, 0.81, 0.65, 0.55, 0.44, 0.37),
    (0.11, 0.169, 0.25, 0.567, 0.801, 1.0, 1.374, 1.672),
)
_LMC = (3.41, (-0.89, 0.998, 2.719, 0.4, 4.579, 0.934))
_LMC_POINTS = ((2.198, 1.65, 1.25, 0.55, 0.44, 0.37), (0.1, 0.186, 0.257, 1.0, 1.293, 1.518))


def _g03_spline(rv, uv, points):
    c1, c2, c3, _, x0, gamma = uv
    x = np.array([_UV, _ANCHOR])
    ends = 1.0 + (c1 + c2 * x + c3 * x**2 / ((x**2 - x0**2) ** 2 + (gamma * x) ** 2)) / rv
    return _natural_spline(np.array([*(1.0 / np.array(points[0])), *x]), np.array([*points[1], *ends]))


_SMC_SPLINE, _LMC_SPLINE = _g03_spline(*_SMC, _SMC_POINTS), _g03_spline(*_LMC, _LMC_POINTS)


def gordon03_smc_shape(wave: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """A / A_V of the bar of the SMC, Gordon et al. (2003)."""
    return _g03(inverse_micron(wave), *_SMC, _SMC_SPLINE)


def gordon03_lmc_shape(wave: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """A / A_V of the average of the LMC, Gordon et al. (2003)."""
    return _g03(inverse_micron(wave), *_LMC, _LMC_SPLINE)


def _g03(x, rv, uv, spline):
    return jnp.where(x < _UV, _evaluate(spline, x), 1.0 + fm90(x, *uv) / rv)
