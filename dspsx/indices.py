"""What is read off a spectrum at rest: breaks, Lick indices, UV slope, luminosities, equivalent widths, ionising photons.

Every function takes `wave`, rest-frame wavelengths in Angstrom (vacuum, increasing), and `sed`, L_nu in Lsun/Hz (or any f_nu
where only ratios matter), which is linear between the points. Integrals are those of that spectrum, a window's ends falling
where they fall between two points. All are differentiable in both. A window that the spectrum does not cover raises ValueError
(under a trace it gives NaN). Indices are those of the resolution that the spectrum has; emission lines are in them only
if they are in the spectrum (in `Instrument.observe` they are, in `GalaxySEDModel.rest_sed` they are not).
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import units
from dspsx._model import Scalar, is_concrete, warn
from dspsx._numerics import gauss_legendre, safe_log10
from dspsx.nebular import LYMAN_LIMIT
from dspsx.spectroscopy import _into_vacuum

#: What a function takes where wavelengths, or the light at them, are meant.
Spectrum = Float[Array, " wave"] | Float[np.ndarray, " wave"]
#: (lo, hi) in Angstrom.
Window = tuple[float, float]

#: 4000 Angstrom breaks: blue and red windows, air.
_BALOGH99 = ((3850.0, 3950.0), (4000.0, 4100.0))
_BRUZUAL83 = ((3750.0, 3950.0), (4050.0, 4250.0))

#: Ten windows of the ultraviolet continuum between the absorption lines: Calzetti, Kinney & Storchi-Bergmann 1994, ApJ 429,
#: 582, table 2.
_CALZETTI94 = (
    (1268.0, 1284.0),
    (1309.0, 1316.0),
    (1342.0, 1371.0),
    (1407.0, 1515.0),
    (1562.0, 1583.0),
    (1677.0, 1740.0),
    (1760.0, 1833.0),
    (1866.0, 1890.0),
    (1930.0, 1950.0),
    (2400.0, 2580.0),
)

#: Lick indices: unit, band, blue and red pseudo-continuum, in air. Worthey et al. 1994, ApJS 94, 687 (revised by Trager et al.
#: 1998, ApJS 116, 1) and, for H delta and H gamma, Worthey & Ottaviani 1997, ApJS 111, 377.
LICK: dict[str, tuple[str, Window, Window, Window]] = {
    "CN1": ("mag", (4142.125, 4177.125), (4080.125, 4117.625), (4244.125, 4284.125)),
    "CN2": ("mag", (4142.125, 4177.125), (4083.875, 4096.375), (4244.125, 4284.125)),
    "Ca4227": ("A", (4222.25, 4234.75), (4211.0, 4219.75), (4241.0, 4251.0)),
    "G4300": ("A", (4281.375, 4316.375), (4266.375, 4282.625), (4318.875, 4335.125)),
    "Fe4383": ("A", (4369.125, 4420.375), (4359.125, 4370.375), (4442.875, 4455.375)),
    "Ca4455": ("A", (4452.125, 4474.625), (4445.875, 4454.625), (4477.125, 4492.125)),
    "Fe4531": ("A", (4514.25, 4559.25), (4504.25, 4514.25), (4560.5, 4579.25)),
    "C4668": ("A", (4634.0, 4720.25), (4611.5, 4630.25), (4742.75, 4756.5)),
    "Hbeta": ("A", (4847.875, 4876.625), (4827.875, 4847.875), (4876.625, 4891.625)),
    "Fe5015": ("A", (4977.75, 5054.0), (4946.5, 4977.75), (5054.0, 5065.25)),
    "Mg1": ("mag", (5069.125, 5134.125), (4895.125, 4957.625), (5301.125, 5366.125)),
    "Mg2": ("mag", (5154.125, 5196.625), (4895.125, 4957.625), (5301.125, 5366.125)),
    "Mgb": ("A", (5160.125, 5192.625), (5142.625, 5161.375), (5191.375, 5206.375)),
    "Fe5270": ("A", (5245.65, 5285.65), (5233.15, 5248.15), (5285.65, 5318.15)),
    "Fe5335": ("A", (5312.125, 5352.125), (5304.625, 5315.875), (5353.375, 5363.375)),
    "Fe5406": ("A", (5387.5, 5415.0), (5376.25, 5387.5), (5415.0, 5425.0)),
    "Fe5709": ("A", (5696.625, 5720.375), (5672.875, 5696.625), (5722.875, 5736.625)),
    "Fe5782": ("A", (5776.625, 5796.625), (5765.375, 5775.375), (5797.875, 5811.625)),
    "NaD": ("A", (5876.875, 5909.375), (5860.625, 5875.625), (5922.125, 5948.125)),
    "TiO1": ("mag", (5936.625, 5994.125), (5816.625, 5849.125), (6038.625, 6103.625)),
    "TiO2": ("mag", (6189.625, 6272.125), (6066.625, 6141.625), (6372.625, 6415.125)),
    "HdeltaA": ("A", (4083.5, 4122.25), (4041.6, 4079.75), (4128.5, 4161.0)),
    "HgammaA": ("A", (4319.75, 4363.5), (4283.5, 4319.75), (4367.25, 4419.75)),
    "HdeltaF": ("A", (4091.0, 4112.25), (4057.25, 4088.5), (4114.75, 4137.25)),
    "HgammaF": ("A", (4331.25, 4352.25), (4283.5, 4319.75), (4354.75, 4384.75)),
}

#: f_lambda is f_nu times (this / wavelength)^2, where the unit does not matter; Angstrom.
_REFERENCE = 1e3
#: Planck's constant, erg s.
_PLANCK = 6.62607015e-27


def dn4000(wave: Spectrum, sed: Spectrum) -> Scalar:
    """Break at 4000 Angstrom: mean f_nu in 4000-4100 over that in 3850-3950 (Balogh et al. 1999, ApJ 527, 54; air)."""
    return _break(wave, sed, _BALOGH99)


def d4000(wave: Spectrum, sed: Spectrum) -> Scalar:
    """Break at 4000 Angstrom: mean f_nu in 4050-4250 over that in 3750-3950 (Bruzual 1983, ApJ 273, 105; air)."""
    return _break(wave, sed, _BRUZUAL83)


def lick_indices(wave: Spectrum, sed: Spectrum, names: str | Iterable[str] | None = None) -> Float[Array, " index"]:
    r"""Lick indices by name, all of `LICK` in its order unless given: in Angstrom, or in mag for the molecular ones.

    .. math:: I_\mathrm{A} = \int 1 - \frac{f_\lambda}{f_c} \, d\lambda, \quad
              I_\mathrm{mag} = -2.5 \log_{10} \frac{1}{\lambda_2 - \lambda_1} \int \frac{f_\lambda}{f_c} \, d\lambda

    with f_c the straight line through the mean f_lambda of two side bands, at their middles (Trager et al. 1998, eqs. 1-3).
    Absorption is positive. The definitions are in air and are moved to vacuum, in which the integrals are done.

    Raises ValueError for an unknown name; warns where the points are too far apart for a band (those of the embedded grid are).
    """
    names = tuple(LICK) if names is None else (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in LICK:
            near = difflib.get_close_matches(str(name), LICK, n=3, cutoff=0.3)
            raise ValueError(
                f"unknown Lick index {name!r}. Nearest: {', '.join(near) or 'none'}; `indices.LICK` has all."
            )
    windows = tuple(_vacuum(*LICK[name][1:]) for name in names)
    wave, sed = _checked(wave, sed, [w for three in windows for w in three])
    if is_concrete(wave):
        coarse = [name for name, (band, *_) in zip(names, windows, strict=True) if _points(np.asarray(wave), band) < 4]
        if coarse:
            warn(
                f"the spectrum has fewer than four points in the band of {', '.join(coarse)}: it does not resolve them."
            )
    return _lick(wave, sed, windows, tuple(LICK[name][0] == "mag" for name in names))


def uv_slope(wave: Spectrum, sed: Spectrum) -> Scalar:
    r"""Slope beta of the ultraviolet continuum, :math:`f_\lambda \propto \lambda^\beta`: straight line by least squares through ten
    points, the log of the mean f_lambda of each window of Calzetti et al. (1994, ApJ 429, 582, table 2).

    A window's mean stands at the geometric mean of its ends, where it belongs exactly for beta = -2 and 0; for power laws from
    beta = -3 to 1 what comes out is within 0.001 of what went in.
    """
    return _uv_slope(*_checked(wave, sed, _CALZETTI94))


def luminosity(wave: Spectrum, sed: Spectrum, lo: float, hi: float) -> Scalar:
    """Luminosity in Lsun between two wavelengths in Angstrom: the integral of L_nu dnu."""
    window = _window("luminosity", (lo, hi))
    return _luminosity(*_checked(wave, sed, (window,)), window)


def equivalent_width(
    wave: Spectrum,
    sed: Spectrum,
    line: Sequence[float],
    blue: Sequence[float],
    red: Sequence[float],
    scheme: str = "exact",
) -> Scalar:
    r"""Equivalent width in Angstrom of a line, positive in emission: :math:`\int (f - f_c) \, d\lambda / f_c(\lambda_0)`.

    The continuum f_c is the parabola that is nearest, by least squares, to the spectrum in two side bands.

    **Arguments:** `line` (lo, middle, hi), or (lo, hi) with the middle half way, and the side bands `blue` and `red`
    (lo, hi), in Angstrom, vacuum. With `scheme="exact"` f is f_lambda, and fit and integral are over all wavelengths of
    their windows. With `scheme="dsps"` they are over the points in them, of `sed` as it stands, and the trapezoid rule ends
    half an interval beyond the line's last points: `dsps.em_lines`, to rounding.
    """
    if scheme not in ("exact", "dsps"):
        raise ValueError(f"equivalent_width: scheme must be 'exact' or 'dsps'; got {scheme!r}.")
    whole = _window("line", (line[0], line[-1]))
    middle = float(line[1]) if len(line) == 3 else 0.5 * (whole[0] + whole[1])
    if len(line) not in (2, 3) or not whole[0] < middle < whole[1]:
        raise ValueError(f"equivalent_width: line must be (lo, middle, hi) or (lo, hi), increasing; got {tuple(line)}.")
    sides = _window("blue", blue), _window("red", red)
    if not sides[0][1] <= sides[1][0]:
        raise ValueError(f"equivalent_width: the blue band {sides[0]} must end before the red one {sides[1]} begins.")
    wave, sed = _checked(wave, sed, (whole, *sides))
    return (_ew if scheme == "exact" else _ew_dsps)(wave, sed, whole, middle, *sides)


def lg_ionising_photon_rate(wave: Spectrum, sed: Spectrum) -> Scalar:
    r"""log10 of the photons per second that can ionise hydrogen, :math:`\int L_\nu / (h \nu) \, d\nu` below 911.76 Angstrom.

    The logarithm, because the rate itself, 1e52 to 1e55, is beyond float32. The spectrum is taken from its first point on; one
    that has none below the limit raises ValueError. Without any ionising light the result is a finite limit, below 25.
    """
    wave, sed = _checked(wave, sed, ())
    if is_concrete(wave) and not float(wave[0]) < LYMAN_LIMIT < float(wave[-1]):
        raise ValueError(
            f"the spectrum, {float(wave[0]):g} to {float(wave[-1]):g} A, does not go below {LYMAN_LIMIT} A."
        )
    return _lg_photons(wave, sed)


def _integrals(wave: Any, sed: Any, windows: Sequence[Window], integrand: Any) -> Float[Array, "..."]:
    """Integrals over windows of integrand(wave, sed), (..., window): Gauss-Legendre between the points and the windows' ends."""
    lo, hi = (jnp.asarray(side, wave.dtype)[:, None] for side in np.asarray(windows, float).T)
    step = wave[1:] - wave[:-1]
    slope = (sed[1:] - sed[:-1]) / jnp.where(step > 0, step, 1.0)
    left = wave[None, :-1]
    start, end = jnp.clip(left, lo, hi), jnp.clip(wave[None, 1:], lo, hi)
    total = 0.0
    for node, weight in zip(*gauss_legendre(3), strict=True):
        at = start + (end - start) * float(node)
        total = total + integrand(at, sed[None, :-1] + slope[None, :] * (at - left)) * ((end - start) * float(weight))
    return jnp.sum(total, -1)


def _means(wave: Any, sed: Any, windows: Sequence[Window]) -> Float[Array, " window"]:
    """Mean f_lambda over each window, in units of that of sed = 1 at `_REFERENCE`."""
    return _integrals(wave, sed, windows, lambda at, f: f * (_REFERENCE / at) ** 2) / _widths(windows, wave.dtype)


def _scaled(sed: Any) -> Any:
    """The spectrum over its maximum, where only ratios matter: in float32 some units would underflow, or their squares."""
    top = jax.lax.stop_gradient(jnp.abs(sed).max())
    return sed / jnp.where(top > 0, top, 1.0)


def _widths(windows: Sequence[Window], dtype: Any) -> Float[Array, " window"]:
    """hi - lo of the ends as they are in the dtype: in float32 5e-4 Angstrom of 30 would be a fault of the mean."""
    return jnp.asarray(np.diff(_rounded(windows, dtype))[:, 0], dtype)


def _rounded(windows: Any, dtype: Any) -> np.ndarray:
    return np.asarray(windows, dtype).astype(float)


def _break(wave: Any, sed: Any, windows: tuple[Window, Window]) -> Scalar:
    moved = _vacuum(*windows)
    return _ratio(*_checked(wave, sed, moved), moved)


@eqx.filter_jit
def _ratio(wave, sed, windows):
    blue, red = _integrals(wave, _scaled(sed), windows, lambda at, f: f) / _widths(windows, wave.dtype)
    return _known(red / blue, wave, windows)


@eqx.filter_jit
def _lick(wave, sed, windows, molecular):
    sed = _scaled(sed)
    bands = tuple(band for band, *_ in windows)
    means = _means(wave, sed, tuple(side for _, *sides in windows for side in sides)).reshape(-1, 2)
    middles = np.array([[0.5 * (lo + hi) for lo, hi in sides] for _, *sides in windows])
    blue, per_angstrom = (jnp.asarray(x, wave.dtype)[:, None] for x in (middles[:, 0], 1.0 / np.diff(middles)[:, 0]))

    def over_continuum(at, f):
        share = (at - blue) * per_angstrom
        return f * (_REFERENCE / at) ** 2 / (means[:, :1] * (1.0 - share) + means[:, 1:] * share)

    width = _widths(bands, wave.dtype)
    mean = _integrals(wave, sed, bands, over_continuum) / width
    index = jnp.where(np.array(molecular), -2.5 * safe_log10(mean), (1.0 - mean) * width)
    lo, hi = (jnp.asarray([pick(x) for x in windows], wave.dtype) for pick in (np.min, np.max))
    return jnp.where((wave[0] <= lo) & (wave[-1] >= hi), index, jnp.nan)


@eqx.filter_jit
def _uv_slope(wave, sed):
    x = np.array([0.5 * (math.log10(lo) + math.log10(hi)) for lo, hi in _CALZETTI94])
    x -= x.mean()
    y = safe_log10(_means(wave, _scaled(sed), _CALZETTI94))
    slope = jnp.asarray(x / (x**2).sum(), wave.dtype)
    return _known((slope * (y - y.mean())).sum(), wave, _CALZETTI94)


@eqx.filter_jit
def _luminosity(wave, sed, window):
    per_c = _integrals(wave, sed, (window,), lambda at, f: f * (units.C_ANGSTROM / at) / at)[0]
    return _known(per_c, wave, (window,))


@eqx.filter_jit
def _lg_photons(wave, sed):
    window = (0.0, LYMAN_LIMIT)
    return safe_log10(_integrals(wave, sed, (window,), lambda at, f: f / at)[0]) + math.log10(units.LSUN_CGS / _PLANCK)


@eqx.filter_jit
def _ew(wave, sed, line, middle, blue, red):
    sed = _scaled(sed)
    # the parabola is in t = (wave - line) / scale; its normal matrix depends on the windows alone
    scale = max(red[1] - middle, middle - blue[0])
    ends = (_rounded([blue, red], wave.dtype) - float(_rounded(middle, wave.dtype))) / scale
    moments = [((ends[:, 1] ** (k + 1) - ends[:, 0] ** (k + 1)) / (k + 1)).sum() for k in range(5)]
    inverse = np.linalg.inv([[moments[i + j] for j in range(3)] for i in range(3)])

    power = jnp.arange(6)[:, None] // 2

    def projected(at, f):
        t = (at - middle) / scale
        return f * (_REFERENCE / at) ** 2 * jnp.where(power == 0, 1.0, jnp.where(power == 1, t, t * t))

    moment = _integrals(wave, sed, (blue, red) * 3, projected).reshape(3, 2).sum(1) / scale
    c = jnp.matmul(jnp.asarray(inverse, wave.dtype), moment, precision=jax.lax.Precision.HIGHEST)

    def excess(at, f):
        t = (at - middle) / scale
        return f * (_REFERENCE / at) ** 2 / c[0] - 1.0 - t * (c[1] / c[0] + t * (c[2] / c[0]))

    return _known(_integrals(wave, sed, (line,), excess)[0], wave, (line, blue, red))


@eqx.filter_jit
def _ew_dsps(wave, sed, line, middle, blue, red):
    sed = _scaled(sed)
    scale = max(red[1] - middle, middle - blue[0])
    t = (wave - middle) / scale
    beside = ((wave >= blue[0]) & (wave <= blue[1])) | ((wave >= red[0]) & (wave <= red[1]))
    t_beside = jnp.where(beside, t, 0.0)
    powers = [beside.astype(wave.dtype), t_beside, t_beside * t_beside]
    matrix = jnp.stack([jnp.stack([(a * b).sum() for b in powers]) for a in powers])
    c = jnp.linalg.solve(matrix, jnp.stack([(a * sed).sum() for a in powers]))
    within = (wave >= line[0]) & (wave <= line[1])
    excess = jnp.where(within, sed / c[0] - 1.0 - t * (c[1] / c[0] + t * (c[2] / c[0])), 0.0)
    return _known((0.5 * (excess[1:] + excess[:-1]) * (wave[1:] - wave[:-1])).sum(), wave, (line, blue, red))


def _known(value: Scalar, wave: Float[Array, " wave"], windows: Sequence[Window]) -> Scalar:
    """The value, or NaN where the spectrum does not cover the windows."""
    lo, hi = min(w[0] for w in windows), max(w[1] for w in windows)
    return jnp.where((wave[0] <= lo) & (wave[-1] >= hi), value, jnp.nan)


def _vacuum(*windows: Window) -> tuple[Window, ...]:
    return tuple((float(lo), float(hi)) for lo, hi in _into_vacuum(np.asarray(windows, float)))


def _points(wave: np.ndarray, window: Window) -> int:
    return int(np.count_nonzero((wave >= window[0]) & (wave <= window[1])))


def _window(name: str, window: Sequence[float]) -> Window:
    ends = tuple(float(x) for x in window)
    if len(ends) != 2 or not 0 < ends[0] < ends[1] or not math.isfinite(ends[1]):
        raise ValueError(f"{name}: a window is two wavelengths in Angstrom, the lesser first; got {tuple(window)}.")
    return ends


def _checked(wave: Any, sed: Any, windows: Sequence[Window]) -> tuple[Float[Array, " wave"], Float[Array, " wave"]]:
    """The spectrum as arrays; raises ValueError for one that is not a spectrum, or does not cover the windows."""
    wave, sed = (x if isinstance(x, jax.Array) else jnp.asarray(x, dtype=float) for x in (wave, sed))
    if wave.ndim != 1 or wave.shape != sed.shape or wave.size < 2:
        raise ValueError(
            f"a spectrum is two arrays (wave,) of one length, at least 2; got wave {wave.shape} and sed {sed.shape}. For many, "
            f"use jax.vmap."
        )
    if is_concrete(wave):
        x = np.asarray(wave)
        if not np.isfinite(x).all() or x[0] <= 0 or (np.diff(x) <= 0).any():
            raise ValueError("wave must be positive, finite and increase strictly.")
        missed = [f"{lo:g}-{hi:g}" for lo, hi in windows if lo < x[0] or hi > x[-1]]
        if missed:
            raise ValueError(
                f"the spectrum goes from {x[0]:g} to {x[-1]:g} A at rest and does not cover {', '.join(missed)} A. Wavelengths are "
                f"in Angstrom."
            )
    return wave, sed
