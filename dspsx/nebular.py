"""Light of gas: ionised by the very stars in use (`NebularLines`), or lines tabulated with them (`TabulatedLines`)."""

import difflib
import functools
import importlib.resources
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import units
from dspsx._files import open_hdf5
from dspsx._model import Scalar, data, is_concrete, param
from dspsx._numerics import matmul, outer, sum_of_products
from dspsx.lines import EmissionLines
from dspsx.ssp import SSPGrid, SSPLibrary

#: Lyman limit of hydrogen in Angstrom (vacuum).
LYMAN_LIMIT = 911.76
#: Photons per second in which ionising photon rates are counted: the rates themselves are beyond float32's range.
PHOTONS = 1e46
_PLANCK_CGS = 6.62607015e-27
_TABLE_FILE, _CONTINUUM_FILE = "nebular_lines.h5", "nebular_continuum.h5"
_KEYS = ("ssp_emline_name", "ssp_emline_wave", "ssp_emline_luminosity")
#: Least rate (1e31 photons per second) by which a mean over photons is divided, so that no photons make no NaN.
_LEAST = 1e-15


class _NamedLines(EmissionLines):
    """Emission lines that have names."""

    line_names: eqx.AbstractVar[tuple[str, ...]]
    lgmet: eqx.AbstractVar[Float[Array, " met"]]
    lg_age: eqx.AbstractVar[Float[Array, " age"]]

    def index(self, name: str) -> int:
        """Place of a line in `line_names`. Raises ValueError, with the names that are like it, if there is none."""
        return _find(name, self.line_names, type(self).__name__)

    def check_use(self, ssp: SSPLibrary) -> None:
        """Raise ValueError if these lines are not for the metallicities and ages of an SSP library."""
        ours, theirs = (self.lgmet, self.lg_age), (ssp.lgmet, ssp.lg_age)
        same = all(a.shape == b.shape for a, b in zip(ours, theirs, strict=True))
        if same and all(map(is_concrete, (*ours, *theirs))):
            same = all(np.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))
        if not same:
            raise ValueError(
                f"{type(self).__name__} is for {self.lgmet.size} metallicities and {self.lg_age.size} ages of the SSP grid that it "
                f"was made for; the galaxy's ssp has {ssp.lgmet.size} and {ssp.lg_age.size}, or other values. Make it for that "
                "grid: NebularLines(grid), or TabulatedLines of the same file."
            )


@final
class NebularLines(_NamedLines):
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
    then be used with any form of that grid, compressed ones too. `tied`: the gas has the mean log10 Z of the young stars,
    each age weighted by its ionising photons. `lines`: names of those wanted, out of 89; fewer are faster. `until`: age in
    Gyr beyond which stars ionise nothing, 30 Myr unless told otherwise (old stars' photons meet other gas, if any).
    `continuum=False`: lines alone, of gas that takes the same light.

    The table has log U = -4 to -1, Z = 0.0001 to 0.02 and ages of 1 to 16 Myr. Outside its nearest edge is used: gas above
    Z = 0.02 emits per photon what gas at 0.02 does, because the source's own models above are unsound (H-alpha 5 to 10 times
    too weak). In log U and log10 Z, the lines of a constant star formation rate are interpolated by cubics in log luminosity,
    and how they change with age is linear, as is the interpolation in log age. The continuum, which varies less, is
    interpolated by cubics in luminosity: per photon it differs from that of a constant star formation rate by 7 % rms or less
    up to 5 Myr of age, by 20 % at 10 Myr, and between neighbours in log U by 11 % at most.

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
    steady: Float[Array, "logu_met line"] = data()
    change: Float[Array, "met_age logu_line"] = data()
    factors: Float[Array, "met_age logu_factor"] | None = data(None, convert=False)
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
        table = _table()
        wanted = table.names if lines is None else _chosen(lines, "NebularLines.lines")
        columns = [_find(name, table.names, "NebularLines") for name in wanted]
        chosen = _chosen([table.names[i] for i in columns], "NebularLines.lines")
        self.logu, self.lgmet_gas, self.escape = logu, lgmet_gas, escape
        self.line_names, self.tied, self.nodes = chosen, tied, (table.logu, table.lgmet)
        self.wave, self.lgmet, self.lg_age = table.wave[columns], ssp.lgmet, ssp.lg_age
        self.rate, self.moments = _photons(ssp, table.lg_age, until)
        steady, change = table.factors()
        self.steady = jnp.log(jnp.asarray(steady[:, columns] * (PHOTONS / units.LSUN_CGS), float))
        self.change = change[..., columns].reshape(len(table.lgmet) * table.lg_age.size, -1)
        self.factors, self.spectra, self.axis = None, None, (1.0, 1.0)
        if continuum:
            factors, spectra, self.axis = _continuum_table()
            self.factors, self.spectra = jnp.asarray(factors, float), jnp.asarray(spectra, float)

    def luminosities(self, ssp, weights):
        """As in `EmissionLines`; raises ValueError for an SSP library with other metallicities or ages."""
        return self.wave.astype(weights.dtype), jax.vmap(self._one_screen)(self._moments(ssp, weights))

    def luminosities_separable(
        self, ssp: SSPLibrary, metallicity: Float[Array, " met"], mass: Float[Array, "screen age"]
    ) -> tuple[Float[Array, " line"], Float[Array, "screen line"]]:
        """As `luminosities`, of weights that are a product of a distribution of metallicity and masses of each age."""
        return self.wave.astype(mass.dtype), jax.vmap(self._one_screen)(self._separable(ssp, metallicity, mass))

    @property
    def has_continuum(self) -> bool:
        """Whether the continuum of the gas is there, besides its lines."""
        return self.spectra is not None

    def continuum(self, ssp, weights, wave):
        """Luminosity in Lsun/Hz, before dust, of the gas's continuum at rest-frame wavelengths in Angstrom; zero outside of
        911.76 A to 1 cm. None with `continuum=False`."""
        return self._glow(self._moments(ssp, weights), wave)

    def continuum_separable(self, ssp, metallicity, mass, wave):
        """As `continuum`, of weights that are a product of a distribution of metallicity and masses of each age."""
        return self._glow(self._separable(ssp, metallicity, mass), wave)

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

    def _state(self, moments: Float[Array, " moment"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """log U and log10 Z of the gas, held inside the table."""
        gas = moments[-1] / jnp.maximum(moments[-2], _LEAST) if self.tied else self.lgmet_gas
        logu, lgmet = self.nodes
        return _within(self.logu.astype(moments.dtype), logu), _within(gas.astype(moments.dtype), lgmet)

    def _one_screen(self, moments: Float[Array, " moment"]) -> Float[Array, " line"]:
        """Lsun in each line of the gas behind a screen."""
        at = self._state(moments)
        steady = jnp.exp(matmul(outer(*map(_cubic, at, self.nodes)), self.steady))
        of_logu, of_gas = map(_linear, at, self.nodes)
        change = sum_of_products(of_logu, matmul(outer(of_gas, moments[:-2]), self.change))
        return (1.0 - self.escape) * steady * change

    def _glow(
        self, moments: Float[Array, "screen moment"], wave: Float[Array, " wave"]
    ) -> Float[Array, "screen wave"] | None:
        if self.factors is None or self.spectra is None:
            return None
        factors, spectra = self.factors, _interpolate(self.spectra, self.axis, wave)

        def one_screen(moments):
            of_logu, of_gas = map(_cubic, self._state(moments), self.nodes)
            return (1.0 - self.escape) * sum_of_products(of_logu, matmul(outer(of_gas, moments[:-2]), factors))

        return matmul(jax.vmap(one_screen)(moments), spectra.T)


@final
class TabulatedLines(_NamedLines):
    r"""Lines that come with an SSP grid: :math:`L_l = \sum_{Z, a} m_{Z, a} \, \ell(Z, a, l)`, gas included as it was computed.

    **Fields:** `wave` (line,) Angstrom in vacuum, rest frame; `luminosity` (met, young, line) Lsun per Msun formed, of the
    ages up to the last that has any; `lgmet`, `lg_age` of the grid; `line_names`.
    """

    line_names: tuple[str, ...] = eqx.field(static=True)
    wave: Float[Array, " line"] = data()
    lgmet: Float[Array, " met"] = data()
    lg_age: Float[Array, " age"] = data()
    luminosity: Float[Array, "met young line"] = data()

    def __init__(self, line_names: Sequence[str], wave: Any, lgmet: Any, lg_age: Any, luminosity: Any):
        """`luminosity` (met, age, line) in Lsun per Msun formed. Raises ValueError for a wrong shape, for two lines of one
        name, and for values that are not finite or negative."""
        self.line_names = _chosen(line_names, "TabulatedLines.line_names")
        wave, luminosity = np.asarray(wave, float), np.asarray(luminosity, float)
        expected = (np.size(lgmet), np.size(lg_age), len(self.line_names))
        if luminosity.shape != expected or wave.shape != expected[2:]:
            raise ValueError(
                f"TabulatedLines.luminosity must have shape (met, age, line) = {expected}; got {luminosity.shape}, with wave "
                f"{wave.shape}."
            )
        for what, x in (("wave", wave), ("luminosity", luminosity)):
            if not (np.isfinite(x).all() and (x >= 0).all()):
                raise ValueError(f"TabulatedLines.{what} must be finite and not negative.")
        shining = np.flatnonzero(luminosity.any((0, 2)))
        self.wave, self.lgmet, self.lg_age = wave, lgmet, lg_age
        self.luminosity = luminosity[:, : max(shining, default=0) + 1]

    @classmethod
    def from_hdf5(cls, path: str | os.PathLike, lines: Sequence[str] | None = None) -> "TabulatedLines":
        """Read the lines of an SSP file in DSPS's HDF5 format, Lsun per Msun on disk, all or those named.

        Names are made as DSPS makes them: "H alpha 6563" and "[O III] 5007" become H_alpha_6563 and O_III_5007. A file in units
        of another solar luminosity (`l_sun_cgs`) is converted. Wavelengths are taken as they are, and meant to be in vacuum.
        Raises FileNotFoundError or ValueError (naming the dataset or line) for a file that cannot be used.
        """
        with open_hdf5(path, "TabulatedLines.from_hdf5", (*_KEYS, "ssp_lgmet", "ssp_lg_age_gyr")) as file:
            raw, wave, luminosity = (file[key][()] for key in _KEYS)
            lgmet, lg_age = file["ssp_lgmet"][()], file["ssp_lg_age_gyr"][()]
            lsun = float(file.attrs.get("l_sun_cgs", units.LSUN_CGS))
        names = tuple(_identifier(name) for name in np.atleast_1d(raw))
        if np.ndim(luminosity) != 3 or luminosity.shape[2] != len(names) or np.shape(wave) != (len(names),):
            raise ValueError(
                f"{os.fspath(path)}: {len(names)} names of lines, but wavelengths {np.shape(wave)} and luminosities "
                f"{np.shape(luminosity)}, which should be (met, age, line)."
            )
        if lines is not None:
            columns = [_find(name, names, os.fspath(path)) for name in lines]
            names, wave, luminosity = tuple(names[i] for i in columns), wave[columns], luminosity[..., columns]
        return cls(names, wave, lgmet, lg_age, luminosity * (lsun / units.LSUN_CGS))

    def luminosities(self, ssp, weights):
        self.check_use(ssp)
        _, n_young, n_line = self.luminosity.shape
        young = weights[..., :n_young]
        luminosity = matmul(young.reshape(young.shape[0], -1), self.luminosity.reshape(-1, n_line))
        return self.wave.astype(weights.dtype), luminosity


def ionising_photon_rates(ssp: SSPGrid) -> np.ndarray:
    r"""Ionising photons per second and Msun formed of each population, (met, age), in 1e46.

    :math:`Q_H = \int_0^{\lambda_0} L_\nu / (h \lambda) \, d\lambda`, with the Lyman limit 911.76 A, exact for a spectrum that
    is linear in wavelength between the points of the grid. Raises ValueError if the grid has no such light.
    """
    if not all(map(is_concrete, (ssp.wave, ssp.flux))):
        raise TypeError("NebularLines must be made outside jit and vmap, where the SSP grid's values can be looked at.")
    wave = np.asarray(ssp.wave, float)
    last = int(np.searchsorted(wave, LYMAN_LIMIT))
    if last == 0:
        raise ValueError(f"the SSP grid begins at {wave[0]:g} A: it has no ionising photons (below {LYMAN_LIMIT:g} A).")
    if last < wave.size:
        last += 1
    w = wave[:last]
    left, right, end = w[:-1], w[1:], np.minimum(w[1:], LYMAN_LIMIT)
    log, width = np.log(end / left), right - left
    # of a hat function over lambda, in each cell: its falling half belongs to the left point, its rising to the right one
    share = np.zeros(last)
    share[:-1] += (right * log - (end - left)) / width
    share[1:] += ((end - left) - left * log) / width
    flux = np.asarray(ssp.flux[..., :last], float)
    return flux @ (share * (units.LSUN_CGS / (_PLANCK_CGS * PHOTONS)))


class _Table(NamedTuple):
    names: tuple[str, ...]
    logu: tuple[float, ...]
    lgmet: tuple[float, ...]
    lg_age: np.ndarray
    wave: Any
    energy: np.ndarray
    photons: np.ndarray

    def factors(self) -> tuple[Any, Any]:
        """erg per photon of a constant star formation rate (logu x met, line), and of each age relative to it
        (met, age, logu, line)."""
        steady = np.einsum("umal,ma->uml", self.energy, self.photons)
        change = self.energy / steady[:, :, None]
        return steady.reshape(-1, self.wave.size), change.transpose(1, 2, 0, 3)


@functools.cache
def _table() -> _Table:
    source = importlib.resources.files("dspsx") / "data" / _TABLE_FILE
    keys = ("logu", "lgmet", "lg_age", "wave", "energy", "photons")
    with importlib.resources.as_file(source) as path, open_hdf5(path, "NebularLines", (*keys, "name")) as file:
        arrays = {key: np.asarray(file[key][()], float) for key in keys}
        names = tuple(name.decode() for name in file["name"][()])
    nodes = {key: tuple(arrays.pop(key).tolist()) for key in ("logu", "lgmet")}
    return _Table(names=names, **nodes, **arrays)


@functools.cache
def _continuum_table() -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Factors (met x age, logu x factor); for each step of the axis the spectra in Lsun/Hz per 1e46 photons per second, and
    their change over it (step, 2 x factor); the axis: first wavelength in Angstrom, and step in its logarithm."""
    source = importlib.resources.files("dspsx") / "data" / _CONTINUUM_FILE
    keys = ("wave", "factors", "spectra")
    with importlib.resources.as_file(source) as path, open_hdf5(path, "NebularLines", keys) as file:
        wave, factors, spectra = (np.asarray(file[key][()], float) for key in keys)
    _, n_met, n_age, _ = factors.shape
    spectra = spectra.T * (PHOTONS / units.LSUN_CGS)
    axis = float(wave[0]), float(np.log(wave[-1] / wave[0]) / (wave.size - 1))
    steps = np.concatenate([spectra[:-1], np.diff(spectra, axis=0)], axis=1)
    return factors.transpose(1, 2, 0, 3).reshape(n_met * n_age, -1), steps, axis


def _interpolate(
    spectra: Float[Array, "step two_factor"], axis: tuple[float, float], wave: Float[Array, " wave"]
) -> Float[Array, "wave factor"]:
    """Spectra of `_continuum_table` at any wavelengths; zero outside of theirs."""
    first, step = axis
    # one row for each wavelength, of what no gradient goes into: the transpose of taking numbers from a table is slow
    x = jnp.log(wave / first) / step
    inside = (x >= 0) & (x <= len(spectra))
    x = jnp.where(inside, x, 0.0)
    row = jnp.minimum(x.astype(jnp.int32), len(spectra) - 1)
    value, change = jnp.split(spectra.astype(wave.dtype).at[row].get(mode="promise_in_bounds"), 2, axis=1)
    light = value + (x - row.astype(x.dtype))[:, None] * change
    return jnp.where(inside[:, None], light, 0.0)


def _photons(ssp: SSPGrid, nodes: np.ndarray, until: float) -> tuple[Any, Any]:
    """The rates (met, age), and the matrix (young, met x moment) whose moments `NebularLines._one_screen` tells of."""
    lgmet, lg_age = np.asarray(ssp.lgmet, float), np.asarray(ssp.lg_age, float)
    ages = 10.0**lg_age
    n = int(np.count_nonzero(ages <= until))
    if n == 0:
        raise ValueError(
            f"NebularLines.until = {until:g} Gyr is below the youngest age of the SSP grid, {ages[0]:g} Gyr."
        )
    rate = ionising_photon_rates(ssp)
    rate[:, n:] = 0.0
    most = rate.max()
    if not most > 1e-5:
        raise ValueError(
            f"the SSP grid has {most * PHOTONS:.2g} ionising photons per second and Msun at most (1e46.5 is usual): its gas has "
            "used them, if nebular emission is included in its spectra. Use a grid of stars only, or its own TabulatedLines."
        )
    x = np.interp(lg_age[:n], nodes, np.arange(nodes.size))
    hats = np.maximum(1.0 - np.abs(x[:, None] - np.arange(nodes.size)), 0.0)
    mean = np.broadcast_to(rate[:, :n].mean(0), (lgmet.size, n))
    columns = [*np.moveaxis(rate[:, :n, None] * hats, 2, 0), mean, mean * lgmet[:, None]]
    return rate, np.stack(columns, axis=-1).swapaxes(0, 1).reshape(n, -1)


def _within(x: Float[Array, ""], nodes: tuple[float, ...]) -> Float[Array, ""]:
    """x, held inside the nodes."""
    x = jnp.where(x < nodes[0], nodes[0], x)
    return jnp.where(x > nodes[-1], nodes[-1], x)


def _distance(x, nodes: tuple[float, ...]):
    """(x - node) in units of the gap to the next node on that side (positive to the right); and those gaps (left, right)."""
    node = np.asarray(nodes)
    gaps = np.diff(node)
    left, right = np.append(gaps[0], gaps), np.append(gaps, gaps[-1])
    d = x - jnp.asarray(node, x.dtype)
    t = jnp.where(d < 0, d * jnp.asarray(1 / left, x.dtype), d * jnp.asarray(1 / right, x.dtype))
    return jnp.clip(t, -1.0, 1.0), left, right


def _linear(x: Float[Array, ""], nodes: tuple[float, ...]) -> Float[Array, " node"]:
    """Weights of the nodes in linear interpolation at x."""
    t, _, _ = _distance(x, nodes)
    return 1.0 - jnp.abs(t)


def _cubic(x: Float[Array, ""], nodes: tuple[float, ...]) -> Float[Array, " node"]:
    """Weights of the nodes in interpolation at x by Hermite cubics whose slopes are those of parabolas through three nodes."""
    t, left, right = _distance(x, nodes)
    size, rest = jnp.abs(t), 1.0 - jnp.abs(t)
    value = rest * rest * (1.0 + 2.0 * size)
    slope = t * rest * rest * jnp.where(t < 0, jnp.asarray(left, t.dtype), jnp.asarray(right, t.dtype))
    slopes = np.gradient(np.eye(len(nodes)), np.asarray(nodes), axis=0, edge_order=2)
    return value + matmul(slope, slopes)


def _identifier(name: Any) -> str:
    """A name as DSPS makes it of what a file has."""
    text = name.decode() if isinstance(name, bytes) else str(name)
    text = text.strip().replace("[", "").replace("]", "")
    return text.replace(" ", "_").replace("-", "_").replace(".", "p")


def _chosen(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Names as a tuple; raises ValueError for none or for one that is there twice."""
    chosen = (names,) if isinstance(names, str) else tuple(names)
    if not chosen:
        raise ValueError(f"{what}: name at least one line.")
    if double := sorted({name for name in chosen if chosen.count(name) > 1}):
        raise ValueError(f"{what}: {', '.join(double)} stands there more than once.")
    return chosen


def _find(name: str, names: tuple[str, ...], what: str) -> int:
    if name in names:
        return names.index(name)
    if (same := _identifier(name)) in names:
        return names.index(same)
    lower = {n.lower(): n for n in names}
    close = [lower[n] for n in difflib.get_close_matches(_identifier(name).lower(), lower, 4, 0.5)]
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(names[:8])} ..."
    raise ValueError(f"{what} has no line {name!r}; {hint} All {len(names)} are in line_names.")
