"""Gas that the galaxy's own young stars ionise."""

from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dspsx import units
from dspsx._model import Scalar, data, param
from dspsx._numerics import interpolation_weights, matmul, sum_of_products, within
from dspsx.nebular.at_state import of_photons
from dspsx.nebular.names import NamedLines, find_line, unique_names
from dspsx.nebular.photons import LYMAN_LIMIT, PHOTONS, photons
from dspsx.nebular.tables import continuum_table, cubic, interpolate, line_table
from dspsx.ssp import SSPGrid, SSPLibrary

#: Least rate (1e31 photons per second) by which a mean over photons is divided, so that no photons make no NaN.
_LEAST = 1e-15


@final
class NebularLines(NamedLines):
    r"""Lines and continuum of gas that the young stars ionise, by the photons that the galaxy's own SSP grid has for it.

    .. math:: L_l = (1 - f_{esc}) \sum_{Z, a} m_{Z, a} \, Q_H(Z, a) \, \epsilon_l(\log U, Z_{gas}, a)

    with m the mass formed, Q_H the ionising photons per second and Msun (`ionising_photon_rates`), and epsilon the energy
    per ionising photon in Cloudy models of gas around stars of each age (Byler et al. 2017, ApJ 840, 44; computed by Carnall
    et al. 2018, MNRAS 480, 4379, with Cloudy, Ferland et al. 2017, RMxAA 53, 385). No dust: galaxies apply theirs.
    Ly_alpha_1216 is what the gas emits, before it is scattered.

    The continuum of the same models (bound-free, free-free, two-photon) is the same sum with an energy per Hz,
    epsilon_nu(log U, Z_gas, a), from 911.76 A to 1 cm in steps of 0.5 % of the wavelength, over two of which edges are
    smeared; beyond 1300 A it is else within 0.04 % rms of theirs, 1.4 % at most. In exchange the gas takes the stars' light
    below 911.76 A, but for `escape`: that of the stars older than `until`, too.

    **Parameters:** `logu`, log10 of the ionisation parameter. `lgmet_gas`, log10 Z of the gas, used with `tied=False` only.
    `escape`, the share of the ionising photons that the gas does not get, because they leave or meet dust grains.

    **Arguments:** `ssp`, the galaxy's SSP grid (the default one if not given), from which Q_H is computed once: the object may
    then be used with any form of that grid, compressed ones too. `tied`: the gas has the mean log10 Z of the galaxy's young
    stars, each age weighted by its ionising photons. `lines`: names of those wanted, out of 89; fewer are faster. `until`: age in
    Gyr beyond which stars ionise nothing, 30 Myr unless told otherwise (old stars' photons meet other gas, if any).
    `continuum=False`: lines alone, of gas that takes the same light.

    The table has log U = -4 to -1, Z = 0.0001 to 0.02 and ages of 1 to 16 Myr. Outside its nearest edge is used: gas above
    Z = 0.02 emits per photon what gas at 0.02 does, because the source's own models above are unsound (H-alpha 5 to 10 times
    too weak). In log U and log10 Z, the lines of a constant star formation rate are interpolated by cubics in log luminosity,
    and how they change with age is linear, as is the interpolation in log age. The continuum, which varies less, is
    interpolated by cubics in luminosity: per photon it differs from that of a constant star formation rate by 7 % rms or less
    up to 5 Myr of age, by 20 % at 10 Myr, and between neighbours in log U by 11 % at most.

    Beside bagpipes 1.3.6 with its own stars, stars younger than 10 Myr and the same gas: within 5 % at its metallicities for the
    strong lines. Elsewhere by design: it interpolates luminosities linearly in log U, where [OIII] between two of its values is
    10 to 30 % above a cubic in the logarithm (log U < -3); between two metallicities it adds up two gases, where this has one
    of the mean ([OIII], [OII] by up to 45 % below Z = 0.002); stars of 10 to 30 Myr, which it leaves out, add 13 to 32 % to
    [OII] and [NII] at Z <= 0.0004. H-alpha over H-beta is 2.73 to 2.92 in the table, below case B's 2.8 only where the gas is
    metal-poor and hot.

    Raises TypeError for an `ssp` without a spectrum, ValueError for one that has no ionising photons or for unknown lines.
    """

    line_names: tuple[str, ...] = eqx.field(static=True)
    tied: bool = eqx.field(static=True)
    nodes: tuple[tuple[float, ...], tuple[float, ...]] = eqx.field(static=True)
    axis: tuple[float, float] = eqx.field(static=True, default=(1.0, 1.0))
    logu: Scalar = param(-2.5, bounds=(-4.0, -1.0), doc="log10 of the ionisation parameter")
    lgmet_gas: Scalar = param(
        -1.85,
        bounds=(-4.0, -1.69897),
        unit="log10 Z",
        doc="metallicity of the gas, if not tied to the stars",
        free=False,
    )
    escape: Scalar = param(
        0.0, bounds=(0.0, 1.0), doc="share of the ionising photons that the gas does not get", free=False
    )
    wave: Float[Array, " line"] = data()
    lgmet: Float[Array, " met"] = data()
    lg_age: Float[Array, " age"] = data()
    rate: Float[Array, "met age"] = data()
    moments: Float[Array, "young met_moment"] = data()
    steady: Float[Array, "logu met 1 line"] = data()
    by_age: Float[Array, "logu met age line"] = data()
    factors: Float[Array, "logu met age factor"] | None = data(None, convert=False)
    spectra: Float[Array, "step two_factor"] | None = data(None, convert=False)

    def __init__(
        self,
        ssp: SSPGrid | None = None,
        *,
        logu: Any = -2.5,
        lgmet_gas: Any = -1.85,
        escape: Any = 0.0,
        tied: bool = True,
        lines: Sequence[str] | None = None,
        until: float = 0.03,
        continuum: bool = True,
    ):
        ssp = SSPGrid.default() if ssp is None else ssp
        if not isinstance(ssp, SSPGrid):
            raise TypeError(
                "NebularLines needs the spectra of an SSPGrid to count ionising photons; got "
                f"{type(ssp).__name__}. Make it of the full grid: it is valid for that grid's compressed forms too."
            )
        for what, x in (("tied", tied), ("continuum", continuum)):
            if not isinstance(x, bool):
                raise TypeError(f"NebularLines.{what} must be True or False; got {x!r}.")
        table = line_table()
        wanted = table.names if lines is None else unique_names(lines, "NebularLines.lines")
        columns = [find_line(name, table.names, "NebularLines") for name in wanted]
        chosen = unique_names([table.names[i] for i in columns], "NebularLines.lines")
        self.logu, self.lgmet_gas, self.escape = logu, lgmet_gas, escape
        self.line_names, self.tied, self.nodes = chosen, tied, (table.logu, table.lgmet)
        self.wave, self.lgmet, self.lg_age = table.wave[columns], ssp.lgmet, ssp.lg_age
        self.rate, self.moments = photons(ssp, table.lg_age, until)
        steady, change = table.factors()
        self.steady = jnp.log(jnp.asarray(steady[..., columns] * (PHOTONS / units.LSUN_CGS), float))[:, :, None]
        self.by_age = change[..., columns]
        self.factors, self.spectra, self.axis = None, None, (1.0, 1.0)
        if continuum:
            factors, spectra, self.axis = continuum_table()
            self.factors, self.spectra = jnp.asarray(factors, float), jnp.asarray(spectra, float)

    def luminosities(self, ssp, weights):
        """As in `EmissionLines`; raises ValueError for an SSP library with other metallicities or ages."""
        return self.wave.astype(weights.dtype), self._lines(self._moments(ssp, weights))

    def luminosities_separable(
        self, ssp: SSPLibrary, metallicity: Float[Array, " met"], mass: Float[Array, "screen age"]
    ) -> tuple[Float[Array, " line"], Float[Array, "screen line"]]:
        """As `luminosities`, of weights that are a product of a distribution of metallicity and masses of each age."""
        return self.wave.astype(mass.dtype), self._lines(self._separable(ssp, metallicity, mass))

    @property
    def has_continuum(self) -> bool:
        """Whether the continuum of the gas is there, besides its lines."""
        return self.spectra is not None

    def continuum(self, ssp, weights, wave):
        """Luminosity in Lsun/Hz, before dust, of the gas's continuum at rest-frame wavelengths in Angstrom; zero outside of
        911.76 A to 1 cm. None with `continuum=False`."""
        return self._glow(self.continuum_parts(ssp, weights), wave)

    def continuum_separable(self, ssp, metallicity, mass, wave):
        """As `continuum`, of weights that are a product of a distribution of metallicity and masses of each age."""
        return self._glow(self.continuum_parts_separable(ssp, metallicity, mass), wave)

    def continuum_spectra(self, wave):
        """The spectra in Lsun/Hz, per 1e46 photons per second, of which the continuum is a sum."""
        return None if self.spectra is None else interpolate(self.spectra, self.axis, wave)

    def continuum_parts(self, ssp, weights):
        """How much of each of the `continuum_spectra` there is, in 1e46 photons per second."""
        return self._parts(self._moments(ssp, weights))

    def continuum_parts_separable(self, ssp, metallicity, mass):
        """As `continuum_parts`, of weights that are a product of a distribution of metallicity and masses of each age."""
        return self._parts(self._separable(ssp, metallicity, mass))

    def transmission(self, wave: Float[Array, " wave"]) -> Float[Array, " wave"]:
        """Fraction of the stars' light that the gas lets through: `escape` below the Lyman limit, all above."""
        return jnp.where(wave < LYMAN_LIMIT, self.escape.astype(wave.dtype), 1.0)

    def ionising_photons(self, weights: Float[Array, "screen met age"]) -> Float[Array, " screen"]:
        """Ionising photons of stars with `weights` in Msun formed, in 1e46 per second, those that escape included."""
        return matmul(weights.reshape(weights.shape[0], -1), self.rate.reshape(-1, 1))[:, 0]

    def _moments(self, ssp, weights) -> Float[Array, "screen moment"]:
        """Of the stars behind each screen: photons of each age of the table, sum of mean photons and of mean photons times
        lgmet."""
        self.check_use(ssp)
        n_met, n_young = self.lgmet.size, self.moments.shape[0]
        young = weights[..., :n_young].reshape(weights.shape[0], -1)
        return matmul(young, self.moments.reshape(n_young, n_met, -1).swapaxes(0, 1).reshape(n_met * n_young, -1))

    def _separable(self, ssp, metallicity, mass) -> Float[Array, "screen moment"]:
        self.check_use(ssp)
        return sum_of_products(metallicity, matmul(mass[:, : self.moments.shape[0]], self.moments))

    def _state(self, moments: Float[Array, "screen moment"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """log U and log10 Z of the gas, held inside the table."""
        mean, times_lgmet = moments[:, -2].sum(), moments[:, -1].sum()
        gas = times_lgmet / jnp.maximum(mean, _LEAST) if self.tied else self.lgmet_gas
        logu, lgmet = self.nodes
        held = lambda x, nodes: within(x.astype(moments.dtype), nodes[0], nodes[-1])  # noqa: E731
        return held(self.logu, logu), held(gas, lgmet)

    def _lines(self, moments: Float[Array, "screen moment"]) -> Float[Array, "screen line"]:
        """Lsun in each line of the gas behind each screen."""
        (logu, lgmet), (of_logu, of_lgmet) = self._state(moments), self.nodes
        steady = of_photons(cubic(logu, of_logu), cubic(lgmet, of_lgmet), jnp.ones((1, 1), moments.dtype), self.steady)
        at = interpolation_weights(logu, of_logu), interpolation_weights(lgmet, of_lgmet)
        return (1.0 - self.escape) * jnp.exp(steady) * of_photons(*at, moments[:, :-2], self.by_age)

    def _parts(self, moments: Float[Array, "screen moment"]) -> Float[Array, "screen part"] | None:
        if self.factors is None:
            return None
        (logu, lgmet), (of_logu, of_lgmet) = self._state(moments), self.nodes
        at = cubic(logu, of_logu), cubic(lgmet, of_lgmet)
        return (1.0 - self.escape) * of_photons(*at, moments[:, :-2], self.factors)

    def _glow(self, parts: Any, wave: Float[Array, " wave"]) -> Float[Array, "screen wave"] | None:
        spectra = self.continuum_spectra(wave)
        return None if spectra is None else matmul(parts, spectra.T)
