"""Ages and distances in a flat universe, differentiable in redshift and in every cosmological parameter.

Each integral over the expansion history is one Gauss-Legendre sum in s = sqrt(a), a = 1 / (1 + z). In the
matter era both integrands are then polynomials (a constant for the distance, s^2 for the time), and radiation
and dark energy keep their singularities well away from the interval: a dozen nodes do what hundreds do in z.

References: Hogg 1999 (arXiv:astro-ph/9905116) for times and distances; Chevallier & Polarski 2001 (IJMPD 10,
213) and Linder 2003 (PRL 90, 091301) for w(a) = w0 + wa (1 - a); Komatsu et al. 2011 (ApJS 192, 18, section
3.3) for massive neutrinos.
"""

import math
from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float

from dspsx._model import AbstractModel, Scalar, param, require_single
from dspsx._numerics import gauss_legendre, safe_power
from dspsx.units import C_ANGSTROM, PC_CM

Redshift = Float[Array, ""] | float

#: Nodes of each integral. Relative error of (ages; lookback times and distances) for z <= 20, worst case in
#: the box (Om0 0.2-0.4, w0 -1.2 to -0.6, wa -1 to 1) / the box (Om0 0.1-0.6, w0 -2 to -0.4, wa -2 to 1):
#:   10 nodes (5e-6; 4e-7) / (7e-5; 1e-5)    12 nodes (1e-6; 2e-8)  / (1e-5; 2e-6)
#:   14 nodes (4e-7; 1e-9) / (3e-6; 3e-7)    16 nodes (2e-7; 8e-11) / (4e-7; 2e-8)
#: Each node costs about 10 ns per redshift.
NODES = 14

#: 1 / H0 in Gyr (Julian years) and c / H0 in Mpc, both for h = 1.
_HUBBLE_TIME = PC_CM * 1e6 / 1e7 / (365.25 * 86400.0 * 1e9)
_HUBBLE_DISTANCE = C_ANGSTROM * 1e-13 / 100.0
#: Omega of photons at Tcmb0 = 1 K and h = 1: (4 sigma / c^3) / (3 H0^2 / 8 pi G), CODATA 2018/2022.
_OMEGA_PHOTON = (4.0 * 5.6703744191844314e-8 / 299792458.0**3) * (
    8.0 * math.pi * 6.6743e-11 / (3.0 * (1e5 / (PC_CM * 1e4)) ** 2)
)
#: Density of one massless neutrino species over that of photons, 7/8 (4/11)^(4/3), per unit of Neff.
_NEUTRINO = 0.875 * (4.0 / 11.0) ** (4.0 / 3.0)
#: Komatsu et al. 2011, eq. 26: rho_nu(m) / rho_nu(0) = (1 + (0.3173 m a / (k_B T_nu))^1.83)^(1/1.83).
_NEUTRINO_POWER = 1.83
_NEUTRINO_MASS = 0.3173 / (8.617333262e-5 * (4.0 / 11.0) ** (1.0 / 3.0))
#: 10 pc in Mpc.
_TEN_PC = 1e-5

_NAMED = {
    # astropy's values: Planck 2015 XIII (A&A 594, A13, table 4), Planck 2018 VI (A&A 641, A6, table 2),
    # Planck 2013 XVI (A&A 571, A16, table 5), Hinshaw et al. 2013 (ApJS 208, 19, table 4), Komatsu et al. 2009
    # (ApJS 180, 330, table 1). "fsps" is what DSPS calls FSPS_COSMO, without radiation.
    "planck15": {"Om0": 0.3075, "h": 0.6774, "Tcmb0": 2.7255, "Neff": 3.046, "m_nu": 0.06},
    "planck18": {"Om0": 0.30966, "h": 0.6766, "Tcmb0": 2.7255, "Neff": 3.046, "m_nu": 0.06},
    "planck13": {"Om0": 0.30712, "h": 0.6777, "Tcmb0": 2.7255, "Neff": 3.046, "m_nu": 0.06},
    "wmap9": {"Om0": 0.2865, "h": 0.6932, "Tcmb0": 2.725, "Neff": 3.04, "m_nu": 0.0},
    "wmap5": {"Om0": 0.277, "h": 0.702, "Tcmb0": 2.725, "Neff": 3.04, "m_nu": 0.0},
    "fsps": {"Om0": 0.27, "h": 0.72, "Tcmb0": 0.0, "Neff": 0.0, "m_nu": 0.0},
}


@final
class Cosmology(AbstractModel):
    r"""Flat universe of matter, photons, neutrinos and dark energy of state :math:`w(a) = w_0 + w_a (1 - a)`.

    .. math:: E^2(a) = \Omega_m a^{-3} + \Omega_r(a)\, a^{-4}
              + \Omega_{de}\, a^{-3 (1 + w_0 + w_a)} e^{-3 w_a (1 - a)}

    with Omega_de such that E(1) = 1. As in astropy, Om0 counts cold and baryonic matter only; Omega_r holds
    photons of temperature Tcmb0 and three neutrino species that share Neff equally, two of them massless
    (astropy has floor(Neff) species: the same for Neff from 3 to 4). The defaults are Planck 2015;
    `Cosmology.named` has others. Tcmb0 = 0 removes photons and neutrinos.

    Every method takes one redshift z >= 0 and gives a scalar of the dtype of the parameters. No method raises;
    values and gradients are finite for z from 0 to 20, everywhere within the bounds (see `_density`).
    """

    Om0: Scalar = param(0.3075, bounds=(0.01, 0.99), free=False, doc="matter density today over critical")
    w0: Scalar = param(-1.0, bounds=(-3.0, 0.5), free=False, doc="dark energy equation of state today")
    wa: Scalar = param(0.0, bounds=(-3.0, 2.0), free=False, doc="minus its derivative with scale factor")
    h: Scalar = param(0.6774, bounds=(0.2, 1.5), unit="100 km/s/Mpc", free=False, doc="Hubble constant")
    Tcmb0: Scalar = param(2.7255, bounds=(0.0, 5.0), unit="K", free=False, doc="CMB temperature today")
    Neff: Scalar = param(3.046, bounds=(0.0, 10.0), free=False, doc="effective number of neutrino species")
    m_nu: Scalar = param(0.06, bounds=(0.0, 10.0), unit="eV", free=False, doc="mass of one neutrino of three")

    @classmethod
    def named(cls, name: str) -> "Cosmology":
        """A published cosmology: planck13, planck15, planck18, wmap5, wmap9 (with astropy's values), or fsps.

        Raises ValueError for another name (upper or lower case).
        """
        try:
            return cls(**_NAMED[str(name).lower()])
        except KeyError:
            known = ", ".join(sorted(_NAMED))
            raise ValueError(
                f"Cosmology.named: unknown cosmology {name!r}; use one of {known}, or give the parameters: "
                f"Cosmology(Om0=0.3, h=0.7, Tcmb0=0.0)."
            ) from None

    def efunc(self, z: Redshift) -> Scalar:
        """E(z) = H(z) / H0, dimensionless (Hogg 1999, eq. 14, with radiation and w(a))."""
        s = 1.0 / jnp.sqrt(1.0 + self._redshift(z))
        return jnp.sqrt(self._density(s[None])[0]) / s**4

    def age(self, z: Redshift) -> Scalar:
        r"""Age of the universe at z in Gyr: :math:`\frac{1}{H_0} \int_0^a \frac{da}{a E}`."""
        s_end = 1.0 / jnp.sqrt(1.0 + self._redshift(z))
        x, w = self._nodes()
        s = s_end * x
        return _HUBBLE_TIME / self.h * s_end * self._time(s, w)

    def lookback_time(self, z: Redshift) -> Scalar:
        r"""Time from z until today in Gyr: :math:`\frac{1}{H_0} \int_a^1 \frac{da}{a E}` (Hogg 1999, eq. 30).

        Integrated by itself, not as a difference of ages, so that it keeps its precision at small z.
        """
        ds = self._interval(self._redshift(z))
        x, w = self._nodes()
        return _HUBBLE_TIME / self.h * ds * self._time(1.0 - ds * x, w)

    def comoving_distance(self, z: Redshift) -> Scalar:
        r"""Comoving distance along the line of sight in Mpc: :math:`\frac{c}{H_0} \int_0^z \frac{dz}{E}`.

        Hogg 1999, eq. 15.
        """
        ds = self._interval(self._redshift(z))
        x, w = self._nodes()
        s = 1.0 - ds * x
        return _HUBBLE_DISTANCE / self.h * ds * (w * 2.0 * s / jnp.sqrt(self._density(s))).sum()

    def luminosity_distance(self, z: Redshift) -> Scalar:
        """Luminosity distance D_L = (1 + z) D_C in Mpc (Hogg 1999, eq. 21); 0 at z = 0."""
        return (1.0 + self._redshift(z)) * self.comoving_distance(z)

    def angular_diameter_distance(self, z: Redshift) -> Scalar:
        """Angular diameter distance D_A = D_C / (1 + z) in Mpc (Hogg 1999, eq. 18)."""
        return self.comoving_distance(z) / (1.0 + self._redshift(z))

    def differential_comoving_volume(self, z: Redshift) -> Scalar:
        """Comoving volume per unit redshift and solid angle, (c / H0) D_C^2 / E, in Mpc^3 / sr.

        Hogg 1999, eq. 28.
        """
        return _HUBBLE_DISTANCE / self.h * self.comoving_distance(z) ** 2 / self.efunc(z)

    def distance_modulus(self, z: Redshift) -> Scalar:
        """mu = 5 log10(D_L / 10 pc) in mag (Hogg 1999, eq. 25), with D_L held at 10 pc below that distance.

        So mu(0) = 0 with zero gradient: apparent magnitudes at z = 0 are absolute magnitudes.
        """
        return 5.0 * jnp.log10(self._in_ten_pc(z))

    def dimming(self, z: Redshift) -> Scalar:
        """(1 + z) (10 pc / D_L)^2, with D_L held at 10 pc below that distance (so 1 at z = 0).

        f_nu(wave_obs) in maggies is L_nu(wave_obs / (1 + z)) / AB_LSUN_HZ times this.
        """
        # inverted before it is squared: the gradient of 1 / x**2 holds x**4, 1e40 at z = 10
        ratio = 1.0 / self._in_ten_pc(z)
        return (1.0 + self._redshift(z)) * ratio * ratio

    def _in_ten_pc(self, z: Redshift) -> Scalar:
        return jnp.maximum(self.luminosity_distance(z) / _TEN_PC, 1.0)

    def _redshift(self, z: Redshift) -> Scalar:
        require_single(self)
        z = jnp.asarray(z, dtype=self.Om0.dtype)
        if z.ndim:
            raise ValueError(f"Cosmology: expected one redshift; got shape {z.shape}. For many, use jax.vmap.")
        return z

    def _nodes(self) -> tuple[Float[Array, " node"], Float[Array, " node"]]:
        x, w = gauss_legendre(NODES)
        return jnp.asarray(x, dtype=self.Om0.dtype), jnp.asarray(w, dtype=self.Om0.dtype)

    @staticmethod
    def _interval(z: Scalar) -> Scalar:
        """1 - sqrt(a), without the cancellation at small z."""
        return z / ((1.0 + z) * (1.0 + 1.0 / jnp.sqrt(1.0 + z)))

    def _time(self, s: Float[Array, " node"], w: Float[Array, " node"]) -> Scalar:
        """Mean of da / (a E ds) over nodes in s = sqrt(a)."""
        return (w * 2.0 * s**3 / jnp.sqrt(self._density(s))).sum()

    def _density(self, s: Float[Array, " node"]) -> Float[Array, " node"]:
        """a^4 E^2 at s = sqrt(a).

        Two guards, idle in any universe like ours, keep it finite and positive at every corner of the bounds:
        dark energy that explodes at early times (w0 + wa > 1/3) is capped, and negative dark energy (the
        other Omegas above 1) never cancels all the rest, as it would where a universe turns round.
        """
        a, log_a = s * s, 2.0 * jnp.log(s)
        other = self.Om0 * a + self._radiation(log_a)
        dark0 = 1.0 - self.Om0 - self._radiation(jnp.zeros_like(self.Om0))
        exponent = (1.0 - 3.0 * (self.w0 + self.wa)) * log_a - 3.0 * self.wa * (1.0 - a)
        return other + jnp.maximum(dark0 * jnp.exp(jnp.minimum(exponent, 40.0)), -0.999 * other)

    def _radiation(self, log_a: Float[Array, "*node"]) -> Float[Array, "*node"]:
        """Density of photons and neutrinos times a^4, over critical; Tcmb0 and m_nu may be 0.

        Komatsu's (1 + (c m a / T)^p)^(1/p) is written T^-1 (T^p + (c m a)^p)^(1/p): nothing is divided by T.
        """
        t, p = self.Tcmb0, _NEUTRINO_POWER
        mass = safe_power(_NEUTRINO_MASS * self.m_nu, p) * jnp.exp(p * log_a)
        massive = safe_power(safe_power(t, p) + mass, 1.0 / p)
        neutrinos = _NEUTRINO * self.Neff / 3.0 * (2.0 * t + massive)
        return _OMEGA_PHOTON / self.h**2 * t**3 * (t + neutrinos)
