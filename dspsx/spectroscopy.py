"""Spectra as an instrument records them: line-spread function, velocity dispersion, pixels, and emission lines."""

import math
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import units
from dspsx._model import AbstractModel, Number, Scalar, data, is_concrete, plain, warn
from dspsx._numerics import CROWDING_WIDTHS
from dspsx._pixel_sums import REACH, blocks, carried_over, pixel_sums
from dspsx.galaxy import GalaxySEDModel

#: Speed of light, km/s.
_C_KMS = units.C_ANGSTROM * 1e-13
#: FWHM of a Gaussian over its standard deviation.
_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
#: Least width in ln(wavelength), 0.3 km/s: anything narrower is drawn as wide as this.
_NARROWEST = 1e-6
#: Below this wavelength tables are in vacuum, whatever they say of the rest.
_AIR_FROM = 2000.0
#: The unit of `Instrument.observe` that is per wavelength, erg / s / cm^2 / Angstrom; the others are of f_nu.
F_LAMBDA = "f_lambda"


def vacuum_to_air(wave: Float[Array, "*shape"] | np.ndarray | float) -> Float[Array, "*shape"]:
    r"""Wavelengths in Angstrom in standard air from those in vacuum: :math:`\lambda / n(\lambda)` (Ciddor 1996, Applied
    Optics 35, 1566, eq. 1: dry air of 15 C, 101325 Pa, 450 ppm CO2). Below 2000 Angstrom unchanged, as is the custom."""
    wave = _angstrom(wave)
    in_air = wave >= _AIR_FROM
    held = jnp.where(in_air, wave, _AIR_FROM)
    excess = _refractivity(held)
    return wave - jnp.where(in_air, held * (excess / (1.0 + excess)), 0.0)


def air_to_vacuum(wave: Float[Array, "*shape"] | np.ndarray | float) -> Float[Array, "*shape"]:
    """Inverse of `vacuum_to_air`: within 1e-9 Angstrom in float64, to the last bit of a wavelength in float32."""
    wave = _angstrom(wave)
    in_air = wave >= _AIR_FROM
    held = jnp.where(in_air, wave, _AIR_FROM)
    return wave + jnp.where(in_air, _into_vacuum(held) - held, 0.0)


def _angstrom(wave: Any) -> Array:
    return wave if isinstance(wave, Array) and eqx.is_inexact_array(wave) else jnp.asarray(wave, dtype=float)


def _refractivity(wave: Any) -> Any:
    """n - 1 of standard air at vacuum wavelengths of 2000 Angstrom and more."""
    s2 = (1e4 / wave) ** 2
    return 0.05792105 / (238.0185 - s2) + 0.00167917 / (57.362 - s2)


def _into_vacuum(wave: Any) -> Any:
    """Fixed point of wave_vacuum = wave n(wave_vacuum); each step gains four digits or more."""
    vacuum = wave
    for _ in range(4):
        vacuum = wave + wave * _refractivity(vacuum)
    return vacuum


@final
class Instrument(AbstractModel):
    r"""A spectrograph: pixels, and a line-spread function that may differ from pixel to pixel.

    Light at :math:`\lambda` spreads as a Gaussian in ln(wavelength), of variance
    :math:`\sigma_\mathrm{instrument}^2 + (\sigma_v / c)^2 - \sigma_\mathrm{library}^2`, and what falls in a pixel is summed.
    The value of a pixel is that energy over the pixel's width, in frequency or in wavelength: the mean of f_nu or of
    f_lambda. Both conserve the energy exactly. The spectrum is linear between its points, as in a band, and Gaussian and pixel are
    integrated in closed form: no grid in between, at any redshift, with all gradients; a width of zero gives plain bins.

    **Arguments:** `wave`, the centres of the pixels in Angstrom as observed, or `edges`, one more than there are pixels;
    one of `resolution` (wavelength over FWHM), `sigma` (Angstrom) and `sigma_kms` (km/s), a number or an array with an
    entry per pixel, the standard deviation of the line-spread function (`sigma=0` for none); `medium`, "vacuum" or "air", of
    the wavelengths given (they are kept in vacuum); `library_fwhm`, resolution (FWHM) of the SSP library in Angstrom at rest, a
    number or a pair (wavelengths, FWHM), None to remove nothing; `max_sigma`, the largest dispersion in km/s that it will be
    asked for: the work grows with it.

    **Fields:** `edges` (edge,) vacuum, Angstrom; `sigma` (edge,) width in ln(wavelength) at the edges.

    Where the library is coarser than instrument and dispersion together nothing can be removed: those pixels keep the
    library's resolution, and a warning says so (redshift decides which, so that it comes with `observe`). For pixels with
    gaps, or arms that overlap, take one Instrument each. Raises ValueError naming the argument for anything out of order.

    Cost: pixels times the points of the SSP grid in a block of 16 of them and 5.5 sigma about it. For 7800 pixels of 0.8 Angstrom
    and steps of 0.9 in the grid that is 2 ms in float32 on a core with `max_sigma=0`, 5 ms with 500 (13 with the gradient).
    """

    medium: str = eqx.field(static=True)
    max_sigma: float = eqx.field(static=True)
    block_width: float = eqx.field(static=True)
    line_window: int = eqx.field(static=True)
    edges: Float[Array, " edge"] = data()
    sigma: Float[Array, " edge"] = data()
    library_wave: Float[Array, " point"] | None = data(convert=False)
    library_fwhm: Float[Array, " point"] | None = data(convert=False)

    def __init__(
        self,
        wave: Any = None,
        *,
        edges: Any = None,
        resolution: Any = None,
        sigma: Any = None,
        sigma_kms: Any = None,
        medium: str = "vacuum",
        library_fwhm: Any = None,
        max_sigma: float = 500.0,
    ):
        if medium not in ("vacuum", "air"):
            raise ValueError(f"Instrument.medium must be 'vacuum' or 'air'; got {medium!r}.")
        if not 0 <= max_sigma <= 3e4:
            raise ValueError(f"Instrument.max_sigma must be a velocity of 0 to 30000 km/s; got {max_sigma!r}.")
        bounds = _pixel_edges(wave, edges, medium)
        spread = _line_spread(bounds, resolution, sigma, sigma_kms)
        kept = jnp.zeros(()).dtype
        if (np.diff(bounds.astype(kept)) <= 0).any():
            raise ValueError(
                f"Instrument: some pixels are too narrow to be told apart in {kept}; enable float64 (jax_enable_x64)."
            )
        ln, total = np.log(bounds), np.hypot(spread, max_sigma / _C_KMS) + _NARROWEST
        rows, reach = blocks(ln), REACH * blocks(total)
        self.medium, self.max_sigma = medium, float(max_sigma)
        self.block_width = float(((rows + reach).max(1) - (rows - reach).min(1)).max())
        around = np.searchsorted(ln, ln + 2.0 * REACH * total.max() * (1 + 1e-5), side="right")
        self.line_window = int(min((around - np.arange(ln.size)).max() + 2, ln.size))
        self.edges, self.sigma = jnp.asarray(bounds, dtype=float), jnp.asarray(spread, dtype=float)
        self.library_wave, self.library_fwhm = _library(library_fwhm)

    def brief(self) -> str:
        """One line: the pixels and the resolution."""
        lo, hi = (float(self.edges[i]) for i in (0, -1))
        width = 2.0 * _C_KMS * float(np.median(np.asarray(self.sigma)))
        return f"Instrument({len(self)} pixels, {lo:.6g} to {hi:.6g} A in vacuum, sigma {width / 2:.3g} km/s in the median)"

    def __len__(self) -> int:
        return self.edges.size - 1

    @property
    def wave(self) -> Float[Array, " pixel"]:
        """Observed wavelengths in Angstrom of the middles of the pixels, in the instrument's `medium`."""
        edges = vacuum_to_air(self.edges) if self.medium == "air" else self.edges
        return edges[:-1] + 0.5 * (edges[1:] - edges[:-1])

    def observe(
        self,
        galaxy: GalaxySEDModel,
        *,
        sigma_stars: Number = 0.0,
        sigma_gas: Number = 0.0,
        unit: str = "maggies",
    ) -> Float[Array, " pixel"]:
        """Spectrum of a galaxy: stars (and whatever else its `observed_sed` holds) with the velocity dispersion `sigma_stars`,
        and its emission lines with `sigma_gas`, both in km/s and without the instrument's own width.

        **Unit:** one of `units.PER_MAGGIE` for the mean f_nu of each pixel, or "f_lambda" for the mean f_lambda in erg / s /
        cm^2 / Angstrom (of vacuum). Lines are Gaussians integrated over the pixels, never drawn on the SSP grid.

        Raises ValueError for a dispersion below zero or above `max_sigma` (NaN comes out under a trace), for pixels beyond
        the spectrum (no light under a trace), and for an unknown unit.
        """
        if not isinstance(galaxy, GalaxySEDModel):
            raise TypeError(f"Instrument.observe needs a GalaxySEDModel; got {type(galaxy).__name__}.")
        if unit != F_LAMBDA and unit not in units.PER_MAGGIE:
            raise ValueError(f"unknown unit {unit!r}; use {F_LAMBDA!r} or one of {', '.join(units.PER_MAGGIE)}.")
        dtype = galaxy.redshift.dtype
        given = {"sigma_stars": sigma_stars, "sigma_gas": sigma_gas}
        stars, gas = (jnp.asarray(plain(f"Instrument.observe: {name}", x), dtype) for name, x in given.items())
        self._check("sigma_stars", stars)
        self._check("sigma_gas", gas)
        self._check_use(galaxy, stars)
        return self._observe(galaxy, stars, gas, unit)

    @eqx.filter_jit
    def _observe(self, galaxy: GalaxySEDModel, stars: Scalar, gas: Scalar, unit: str) -> Float[Array, " pixel"]:
        wave, crowds, seen = galaxy.ssp.spectrum_wave(), getattr(galaxy.ssp, "crowds", None), galaxy.light()
        light = self.pixel_average(wave, seen.observed_sed(), galaxy.redshift, stars, crowds)
        if galaxy.lines is not None:
            lines = self.line_average(*seen.emission_lines(observed=True), galaxy.redshift, gas)
            light = light + lines * (seen.dimming / units.AB_LSUN_HZ)
        if unit == F_LAMBDA:
            edges = self.edges.astype(light.dtype)
            return light * (units.per_maggie("cgs") * units.C_ANGSTROM) / edges[1:] / edges[:-1]
        return light * units.per_maggie(unit)

    def pixel_average(
        self,
        wave: Float[Array, " wave"],
        spectrum: Float[Array, " wave"],
        redshift: Number = 0.0,
        sigma: Number = 0.0,
        crowds: tuple[int, ...] | None = None,
    ) -> Float[Array, " pixel"]:
        """Mean f_nu in each pixel of a spectrum f_nu on rest-frame wavelengths (vacuum), seen at a redshift with a velocity
        dispersion in km/s; in the spectrum's unit. Beyond its ends there is no light, but that within five widths of a
        pixel's edge it is blurred as if it went on.

        `crowds`, what `_numerics.crowding` says of `wave` (an SSP grid has it), saves most of the work.
        """
        x = wave * (1.0 + jnp.asarray(redshift, wave.dtype))
        edges, width = self.edges.astype(x.dtype), self.width(redshift, sigma).astype(x.dtype)
        over = carried_over(x, spectrum, edges, width, _window(x.size, self.block_width, crowds))
        sums = pixel_sums(x, spectrum, edges) + over[1:] - over[:-1]
        return sums * (edges[1:] * (edges[:-1] / (edges[1:] - edges[:-1])))

    def line_average(
        self,
        wave: Float[Array, " line"],
        luminosity: Float[Array, " line"],
        redshift: Number = 0.0,
        sigma: Number = 0.0,
    ) -> Float[Array, " pixel"]:
        r"""Mean f_nu in each pixel of lines at rest-frame wavelengths (vacuum), in their unit per Hz of the rest frame.

        A line is a Gaussian in ln(wavelength) of the instrument's width at the line and the dispersion `sigma` in km/s; its
        share of a pixel is a difference of two error functions. The library's resolution does not enter.
        """
        stretch = 1.0 + jnp.asarray(redshift, wave.dtype)
        edges = self.edges.astype(wave.dtype)
        middle = jnp.sqrt(edges[0] * edges[-1])
        at, y = jnp.log(edges / middle), jnp.log(wave * stretch / middle)
        own = jnp.interp(y, at, self.sigma.astype(wave.dtype))
        width = jnp.sqrt(jnp.maximum(own**2 + self._dispersion(sigma, wave.dtype) ** 2, _NARROWEST**2))
        window = self.line_window
        first = jnp.searchsorted(at, y - REACH * width).astype(jnp.int32)
        first = jnp.clip(first - 1, 0, edges.size - window)
        nearby = first[:, None] + np.arange(window, dtype=np.int32)[None, :]
        left = jax.lax.erfc((y[:, None] - at[nearby]) * (math.sqrt(0.5) / width)[:, None])
        share = 0.5 * (left[:, 1:] - left[:, :-1])
        per_second = jnp.zeros(edges.size - 1, wave.dtype).at[nearby[:, :-1]].add(share * luminosity[:, None])
        hertz = (edges[1:] - edges[:-1]) / edges[1:] * (units.C_ANGSTROM / edges[:-1]) * stretch
        return per_second / hertz

    def width(self, redshift: Number = 0.0, sigma: Number = 0.0) -> Float[Array, " edge"]:
        """Width in ln(wavelength) of what the continuum is convolved with at each edge: instrument and dispersion (km/s)
        less the library, 0.3 km/s at least."""
        return jnp.sqrt(jnp.maximum(self._variance(redshift, sigma), _NARROWEST**2))

    def _variance(self, redshift: Number, sigma: Number) -> Float[Array, " edge"]:
        variance = self.sigma**2 + self._dispersion(sigma, self.sigma.dtype) ** 2
        if self.library_wave is None or self.library_fwhm is None:
            return variance
        rest = self.edges / (1.0 + jnp.asarray(redshift, self.edges.dtype))
        return variance - (jnp.interp(rest, self.library_wave, self.library_fwhm) / (rest * _FWHM)) ** 2

    def _dispersion(self, sigma: Number, dtype: Any) -> Scalar:
        sigma = jnp.asarray(sigma, dtype)
        return jnp.where(sigma <= self.max_sigma * (1 + 1e-6), sigma, jnp.nan) / _C_KMS

    def _check(self, name: str, sigma: Scalar) -> None:
        if sigma.ndim:
            raise ValueError(f"Instrument.observe: {name} must be one number; got shape {sigma.shape}.")
        if is_concrete(sigma) and not 0 <= float(sigma) <= self.max_sigma * (1 + 1e-6):
            raise ValueError(
                f"Instrument.observe: {name} = {float(sigma):g} must be 0 to {self.max_sigma:g} km/s; for more, build the "
                f"Instrument with a larger max_sigma."
            )

    def _check_use(self, galaxy: GalaxySEDModel, stars: Scalar) -> None:
        wave, z = galaxy.ssp.spectrum_wave(), galaxy.redshift
        if z.ndim or not all(map(is_concrete, jax.tree.leaves((wave, z, stars, self)))):
            return
        seen = float(wave[0]) * (1 + float(z)), float(wave[-1]) * (1 + float(z))
        if float(self.edges[0]) < seen[0] or float(self.edges[-1]) > seen[1]:
            raise ValueError(
                f"Instrument.observe: the pixels run from {float(self.edges[0]):g} to {float(self.edges[-1]):g} A, beyond the "
                f"spectrum, which at redshift {float(z):g} ends at {seen[0]:g} and {seen[1]:g} A."
            )
        edges = np.asarray(self.edges, float)
        if self.library_wave is None:
            # the least width that is told apart here, and the distance between two points of the library there
            variance = np.asarray(self._variance(z, stars), float)
            told = np.maximum(np.sqrt(variance) * _FWHM * edges, np.gradient(edges))
            points = np.asarray(wave, float) * (1 + float(z))
            apart = np.diff(points)[np.clip(np.searchsorted(points, edges) - 1, 0, points.size - 2)]
            if (unseen := told < apart * (1 - 1e-3)).any():
                at = edges[unseen]
                warn(
                    f"at {unseen.mean():.0%} of the pixels ({at[0]:.5g} to {at[-1]:.5g} A observed) the SSP library has a "
                    f"point every {np.median(apart[unseen]):.3g} A, where the instrument resolves {np.median(told[unseen]):.3g}: "
                    "starlight is smoother there than it would be seen."
                )
        coarse = np.asarray(self._variance(z, stars)) < 0
        if coarse.any():
            at = np.asarray(self.edges)[coarse]
            warn(
                f"the SSP library is coarser than instrument and dispersion at {coarse.mean():.0%} of the pixels ({at[0]:.5g} to "
                f"{at[-1]:.5g} A observed): they keep the library's resolution."
            )


def _window(n: int, width: float, crowds: tuple[int, ...] | None) -> int:
    """The most points of a spectrum of n points within a width in ln(wavelength)."""
    if crowds is None:
        return n
    return min(n, 1 + next((c for w, c in zip(CROWDING_WIDTHS, crowds, strict=True) if w >= width), n))


def _pixel_edges(wave: Any, edges: Any, medium: str) -> np.ndarray:
    """Edges of the pixels in Angstrom, vacuum."""
    if (wave is None) == (edges is None):
        raise ValueError("Instrument needs the centres of its pixels, `wave`, or their `edges`: one of the two.")
    name = "wave" if edges is None else "edges"
    x = np.asarray(wave if edges is None else edges, float)
    if x.ndim != 1 or x.size < 2:
        raise ValueError(f"Instrument.{name} must be an array of at least two wavelengths; got shape {x.shape}.")
    if not np.isfinite(x).all() or x[0] <= 0:
        raise ValueError(f"Instrument.{name} must be finite and positive.")
    if (wrong := np.flatnonzero(np.diff(x) <= 0)).size:
        i = wrong[0]
        raise ValueError(f"Instrument.{name} must increase strictly; got {x[i]:.8g}, {x[i + 1]:.8g} at index {i}.")
    if x[-1] < 900.0:
        unit = "micron" if x[-1] < 100 else "nm"
        raise ValueError(f"Instrument.{name} ends at {x[-1]:g}; expected Angstrom, this looks like {unit}.")
    if edges is None:
        middle = 0.5 * (x[1:] + x[:-1])
        x = np.concatenate([[2 * x[0] - middle[0]], middle, [2 * x[-1] - middle[-1]]])
        if x[0] <= 0:
            raise ValueError(f"Instrument.wave: the first pixel, as wide as the next, would begin at {x[0]:g} A.")
    if medium == "air":
        if x[0] < _AIR_FROM:
            raise ValueError(
                f"Instrument: wavelengths below {_AIR_FROM:g} A are never in air; the first edge is {x[0]:g}."
            )
        x = np.asarray(_into_vacuum(x))
    return x


def _line_spread(edges: np.ndarray, resolution: Any, sigma: Any, sigma_kms: Any) -> np.ndarray:
    """Standard deviation in ln(wavelength) at each edge."""
    given = {"resolution": resolution, "sigma": sigma, "sigma_kms": sigma_kms}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) != 1:
        raise ValueError(
            f"Instrument needs one of resolution, sigma and sigma_kms (sigma=0.0 for a spectrum that is not broadened); got "
            f"{', '.join(given) or 'none'}."
        )
    (name, value) = next(iter(given.items()))
    x = np.asarray(plain(f"Instrument.{name}", value), float)
    n = edges.size - 1
    if x.shape not in ((), (n,)):
        raise ValueError(f"Instrument.{name} must be a number or one per pixel, ({n},); got shape {x.shape}.")
    if not np.isfinite(x).all() or (x < 0).any() or (name == "resolution" and (x == 0).any()):
        raise ValueError(
            f"Instrument.{name} must be finite and {'positive' if name == 'resolution' else 'not negative'}."
        )
    x, middle = np.broadcast_to(x, (n,)), 0.5 * (edges[1:] + edges[:-1])
    ln = {"resolution": lambda: 1.0 / (x * _FWHM), "sigma": lambda: x / middle, "sigma_kms": lambda: x / _C_KMS}[name]()
    if ln.max() > 0.2:
        hint = {"resolution": "wavelength over FWHM", "sigma": "Angstrom", "sigma_kms": "km/s"}[name]
        raise ValueError(
            f"Instrument.{name} is in {hint}; up to {x.max():g} makes a line {ln.max():.2g} of its wavelength wide (sigma)."
        )
    return np.interp(edges, middle, ln) if n > 1 else np.repeat(ln, 2)


def _library(fwhm: Any) -> tuple[Any, Any]:
    """Table of the library's FWHM against rest-frame wavelength; it is held beyond its ends."""
    if fwhm is None:
        return None, None
    pair = fwhm if isinstance(fwhm, tuple | list) else ([1e3, 1e5], [fwhm, fwhm])
    wave, value = (np.asarray(x, float) for x in pair) if len(pair) == 2 else (np.zeros(0), np.zeros(1))
    if wave.ndim != 1 or wave.shape != value.shape or wave.size < 2 or (np.diff(wave) <= 0).any():
        raise ValueError(
            "Instrument.library_fwhm must be a number of Angstrom, or a pair (wavelengths that increase, FWHM) of at least two "
            "entries each."
        )
    if not np.isfinite(value).all() or (value < 0).any() or (value > 0.5 * wave).any():
        raise ValueError(
            f"Instrument.library_fwhm must be Angstrom at rest, zero or more; got {value.min():g} to {value.max():g}."
        )
    return jnp.asarray(wave, dtype=float), jnp.asarray(value, dtype=float)
