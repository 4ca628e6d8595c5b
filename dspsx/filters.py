"""FilterSet: transmission curves of bands, and the exact integral of a spectrum through them."""

import difflib
import fnmatch
import functools
import hashlib
import importlib.resources
import os
import pathlib
import warnings
from collections.abc import Iterable, Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import _band_integrals, units
from dspsx._files import open_hdf5, require_file
from dspsx._model import AbstractModel, Number, data, is_concrete, plain
from dspsx._numerics import gauss_legendre, matmul

_EMBEDDED_FILE = "filters.h5"
#: Widest step in ln(wavelength) between two points of a curve: it limits how much of a spectrum lies between them.
_STEP = 1 / 64
#: A band is told as not covered when more than this share of it lies outside the spectrum.
_UNCOVERED = 1e-3


@final
class FilterSet(AbstractModel):
    r"""Bands, as transmission curves that are linear between their points and zero outside.

    The mean of a spectrum in a band counts photons (AB system; Oke & Gunn 1983, ApJ 266, 713):
    :math:`\langle f_\nu \rangle = \int T f_\nu \, d\lambda / \lambda \; / \int T \, d\lambda / \lambda`.
    Curve and spectrum are both piecewise linear, and their product is integrated on the union of their points, at any
    redshift, with its gradient. The scale of a transmission does not matter; it may exceed one.

    **Fields:** `names` of the bands; `sizes`, the number of points of each; `widths`, ln of the last wavelength over the
    first; `wave`, `transmission` (point,): the curves, one after the other, with points put in where they had wide steps. Make
    one with `load`, `from_arrays`, `from_files`, `from_speclite` or `from_sedpy`; join two with `+`.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)
    widths: tuple[float, ...] = eqx.field(static=True)
    wave: Float[Array, " point"] = data()
    transmission: Float[Array, " point"] = data()

    def __check_init__(self):
        shape = (sum(self.sizes),)
        if (
            not len(self.names) == len(self.sizes) == len(self.widths)
            or self.wave.shape != shape
            or self.transmission.shape != shape
        ):
            raise ValueError(
                f"FilterSet: {len(self.names)} names and {len(self.sizes)} sizes with {shape[0]} points, but wave "
                f"{self.wave.shape} and transmission {self.transmission.shape}. Use FilterSet.from_arrays."
            )
        if is_concrete(self.wave) and self.wave.ndim == 1:
            widest = max(float(np.log(w[1:] / w[:-1]).max()) for w, _ in self.curves())
            if widest > 1.005 * _STEP:
                raise ValueError(
                    f"FilterSet: a curve has a step of {widest:.3g} in ln(wavelength), wider than {_STEP:g}. Use "
                    "FilterSet.from_arrays, which puts points in between."
                )

    def brief(self) -> str:
        """One line about the bands, for printing a model that holds them."""
        return f"FilterSet({', '.join(self.names)})"

    def __add__(self, other: "FilterSet") -> "FilterSet":
        return FilterSet.from_arrays(self.names + other.names, *zip(*self.curves(), *other.curves(), strict=True))

    def __len__(self) -> int:
        return len(self.names)

    def curves(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Wavelengths in Angstrom and transmission of each band."""
        cuts = np.cumsum(self.sizes)[:-1]
        waves, curves = np.split(np.asarray(self.wave), cuts), np.split(np.asarray(self.transmission), cuts)
        return list(zip(waves, curves, strict=True))

    def projection(
        self, wave: Float[Array, " wave"], redshift: Number = 0.0, crowds: tuple[int, ...] | None = None
    ) -> Float[Array, "band wave"]:
        r"""The matrix P with :math:`\langle f_\nu \rangle = P f_\nu`, for a spectrum on rest-frame wavelengths at a redshift.

        Row sums are one for a band that the spectrum covers, less for one that it covers in part. `crowds`, what
        `_numerics.crowding` says of `wave` (an SSP grid has it), saves time.
        """
        observed = wave * (1.0 + jnp.asarray(redshift, wave.dtype))
        windows = _band_integrals.windows(wave.size, self.widths, crowds)
        return _band_integrals.projection(observed, self.wave, self.transmission, self.sizes, windows)

    def band_average(
        self,
        wave: Float[Array, " wave"],
        spectrum: Float[Array, " wave"],
        redshift: Number = 0.0,
        crowds: tuple[int, ...] | None = None,
    ) -> Float[Array, " band"]:
        """Mean f_nu in each band of a spectrum on rest-frame wavelengths, seen at a redshift; in the spectrum's unit."""
        observed = wave * (1.0 + jnp.asarray(redshift, wave.dtype))
        windows = _band_integrals.windows(wave.size, self.widths, crowds)
        (most,) = _band_integrals.windows(wave.size, (1.01 * _STEP,), crowds)
        return _band_integrals.average((self.sizes, windows, most), observed, spectrum, self.wave, self.transmission)

    def line_average(
        self, wave: Float[Array, " line"], luminosity: Float[Array, " line"], redshift: Number = 0.0
    ) -> Float[Array, " band"]:
        r"""Mean f_nu in each band of lines, delta functions at rest-frame wavelengths, in their unit per Hz.

        :math:`\langle L_\nu \rangle = \sum_l L_l \, (\lambda_l / c) \, T(\lambda_l (1 + z)) / \int T \, d\lambda / \lambda`
        """
        observed = wave * (1.0 + jnp.asarray(redshift, wave.dtype))
        per_hz = luminosity * (wave / units.C_ANGSTROM)
        cuts = np.cumsum(self.sizes)[:-1]
        curves = zip(jnp.split(self.wave, cuts), jnp.split(self.transmission, cuts), strict=True)
        seen = jnp.stack([jnp.interp(observed, w, t, left=0.0, right=0.0) for w, t in curves], axis=-1)
        return matmul(per_hz, seen) / _band_integrals.norms(self.wave, self.transmission, self.sizes)

    def samples(self, n: int = 32) -> tuple[Float[Array, "band {n}"], Float[Array, "band {n}"]]:
        r"""Observed wavelengths in Angstrom and weights, with which the mean of a smooth :math:`f_\nu` is its mean in the band.

        The band is cut into n parts of equal :math:`\int \sqrt{T} \, d\lambda / \lambda`, so that wings and leaks have some;
        each counts by its :math:`\int T \, d\lambda / \lambda`, at its mean wavelength. Power laws from -2 to 4 in wavelength are
        within 2e-3 with 32.
        """
        cuts = np.cumsum(self.sizes)[:-1]
        waves, weights = [], []
        for w, t in zip(jnp.split(self.wave, cuts), jnp.split(self.transmission, cuts), strict=True):
            # each interval in eight: within them the transmission counts as constant
            part = jnp.asarray((np.arange(8) + 0.5) / 8, w.dtype)
            at = (w[:-1, None] + jnp.diff(w)[:, None] * part[None, :]).ravel()
            value = (t[:-1, None] + jnp.diff(t)[:, None] * part[None, :]).ravel() / t.max()
            width = jnp.repeat(jnp.diff(w) / 8, 8)
            parts = (jnp.sqrt(value) * width / at, value * width / at, value * width)
            measure, share, moment = (jnp.pad(jnp.cumsum(x), (1, 0)) for x in parts)
            ends = jnp.asarray(np.arange(n + 1) / n, w.dtype) * measure[-1]
            share, moment = (jnp.diff(jnp.interp(ends, measure, x)) for x in (share, moment))
            waves.append(jnp.clip(moment / jnp.maximum(share, 1e-30), w[0], w[-1]))
            weights.append(share / share.sum())
        return jnp.stack(waves), jnp.stack(weights)

    def pivot_wavelengths(self) -> np.ndarray:
        r"""Pivot wavelength of each band in Angstrom, :math:`\sqrt{\int T \lambda d\lambda / \int T d\lambda / \lambda}`."""
        return np.array([_pivot(w, t) for w, t in self.curves()])

    def uncovered(self, wave: Array | np.ndarray, redshift: Number) -> list[str]:
        """Names of the bands of which the spectrum misses more than 0.1 % at this redshift (not under a trace)."""
        z = float(redshift)
        lo, hi = float(wave[0]) * (1 + z), float(wave[-1]) * (1 + z)
        return [
            name for name, (w, t) in zip(self.names, self.curves(), strict=True) if _outside(w, t, lo, hi) > _UNCOVERED
        ]

    def digest(self) -> str:
        """SHA-256 of names and curves in float32."""
        sha = hashlib.sha256("\n".join(self.names).encode())
        for curve in self.curves():
            for array in curve:
                sha.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
        return sha.hexdigest()

    @staticmethod
    def available() -> list[str]:
        """Names of the embedded bands."""
        return sorted(_embedded())

    @classmethod
    def load(cls, names: str | Iterable[str]) -> "FilterSet":
        """Embedded bands by name or glob: `FilterSet.load(["lsst_*", "wise_w1"])`.

        A glob gives its bands in order of wavelength. Raises ValueError, with the nearest names, if one matches nothing.
        """
        curves = _embedded()
        chosen: list[str] = []
        patterns = list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [names]
        if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
            raise ValueError(f"FilterSet.load needs at least one name or glob, such as 'lsst_*'; got {patterns!r}.")
        for pattern in patterns:
            found = [name for name in curves if fnmatch.fnmatchcase(name, pattern.lower())]
            if not found:
                near = difflib.get_close_matches(pattern.lower(), curves, n=4, cutoff=0.3)
                raise ValueError(
                    f"no embedded filter matches {pattern!r}. Nearest: {', '.join(near) or 'none'}. FilterSet.available() "
                    f"lists all {len(curves)}; FilterSet.from_files, from_speclite and from_sedpy read others."
                )
            found.sort(key=lambda name: _pivot(*curves[name]))
            chosen += [name for name in found if name not in chosen]
        return cls.from_arrays(chosen, *zip(*(curves[name] for name in chosen), strict=True))

    @classmethod
    def from_arrays(cls, names: Sequence[str], waves: Sequence, transmissions: Sequence) -> "FilterSet":
        """Bands from arrays: a name, wavelengths in Angstrom (increasing) and a transmission each, of any lengths.

        Wavelengths with a unit of astropy are converted. Raises ValueError naming the band for a wrong shape, order, unit, NaN or
        a negative transmission, TypeError for text or masked values.
        """
        names = (names,) if isinstance(names, str) else tuple(names)
        if not names or len(set(names)) != len(names):
            raise ValueError(f"FilterSet needs at least one band, and each name once; got {list(names)}.")
        if not len(names) == len(waves) == len(transmissions):
            raise ValueError(
                f"FilterSet: {len(names)} names, {len(waves)} wavelength arrays, {len(transmissions)} transmissions."
            )
        curves = [_filled(*_checked(*curve)) for curve in zip(names, waves, transmissions, strict=True)]
        sizes = tuple(w.size for w, _ in curves)
        widths = tuple(float(np.log(w[-1] / w[0])) for w, _ in curves)
        return cls(names, sizes, widths, *(np.concatenate(arrays) for arrays in zip(*curves, strict=True)))

    @classmethod
    def from_files(cls, paths: str | os.PathLike | Sequence, names: Sequence[str] | None = None) -> "FilterSet":
        """Bands from files: two columns of text (Angstrom, transmission), or DSPS's HDF5 with `wave` and `transmission`.

        Names are the files' own, without the suffix, unless given.
        """
        paths = list(paths) if isinstance(paths, Iterable) and not isinstance(paths, str) else [paths]
        if odd := [path for path in paths if not isinstance(path, str | os.PathLike)]:
            raise TypeError(f"FilterSet.from_files: expected names of files; got {odd[0]!r}.")
        curves = [_read_curve(pathlib.Path(path)) for path in paths]
        names = [pathlib.Path(path).stem for path in paths] if names is None else names
        return cls.from_arrays(names, [w for w, _ in curves], [t for _, t in curves])

    @classmethod
    def from_speclite(cls, *names: str) -> "FilterSet":
        """Bands of speclite by its names, such as "decam2014-*"; needs the extra `astro`."""
        try:
            import speclite.filters
        except ImportError as error:
            raise ImportError("FilterSet.from_speclite needs speclite: pip install 'dspsx[astro]'.") from error
        responses = list(speclite.filters.load_filters(*names))
        waves = [np.asarray(r._wavelength, float) for r in responses]
        return cls.from_arrays([r.name for r in responses], waves, [np.asarray(r.response, float) for r in responses])

    @classmethod
    def from_sedpy(cls, *names: str) -> "FilterSet":
        """Bands of sedpy by its names, such as "jwst_f090w"; needs the extra `astro`."""
        try:
            from sedpy import observate
        except ImportError as error:
            raise ImportError("FilterSet.from_sedpy needs sedpy: pip install 'dspsx[astro]'.") from error
        responses = observate.load_filters(list(names))
        return cls.from_arrays(
            names, [r.wavelength for r in responses], [np.maximum(r.transmission, 0) for r in responses]
        )


@functools.cache
def _embedded() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    source = importlib.resources.files("dspsx") / "data" / _EMBEDDED_FILE
    with importlib.resources.as_file(source) as path, open_hdf5(path, "the embedded filters") as file:
        return {name: (group["wave"][()], group["transmission"][()]) for name, group in file.items()}


def _checked(name: str, wave, transmission) -> tuple[np.ndarray, np.ndarray]:
    with_unit = hasattr(wave, "unit") and hasattr(wave, "to_value")
    wave = plain(f"filter {name}: its wavelength", wave.to_value("Angstrom") if with_unit else wave)
    try:
        w, t = np.asarray(wave, float), np.asarray(plain(f"filter {name}: its transmission", transmission), float)
    except ValueError as error:
        raise ValueError(f"filter {name}: needs two arrays of numbers [{error}].") from None
    if w.ndim != 1 or w.shape != t.shape or w.size < 2:
        raise ValueError(
            f"filter {name}: needs two arrays of one length, at least 2; got shapes {w.shape} and {t.shape}."
        )
    if not (np.isfinite(w).all() and np.isfinite(t).all()):
        raise ValueError(f"filter {name}: holds values that are not finite.")
    if (np.diff(w) <= 0).any() or w[0] <= 0:
        i = int(np.argmax(np.diff(w) <= 0))
        raise ValueError(
            f"filter {name}: wavelengths must be positive and increase; got {w[i]:g}, {w[i + 1]:g} at index {i}."
        )
    if w[-1] < 1200.0:
        unit = "micron" if w[-1] < 100 else "nm"
        raise ValueError(
            f"filter {name}: wavelengths run from {w[0]:g} to {w[-1]:g}; expected Angstrom, this looks like {unit}."
        )
    if (t < 0).any() or not t.any():
        raise ValueError(
            f"filter {name}: the transmission must be positive or zero, and not all zero; least {t.min():g}."
        )
    dtype = jnp.zeros(()).dtype
    if w[0].astype(dtype) == w[-1].astype(dtype):
        raise ValueError(
            f"filter {name}: from {w[0]:.9g} to {w[-1]:.9g} A is too narrow to be told from nothing in {dtype}."
        )
    return w, t


def _filled(wave: np.ndarray, transmission: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve with points put into its wide steps; the curve itself stays what it was, and filled once more the same."""
    step = np.diff(np.log(wave))
    parts = np.where(step > _STEP * (1 + 1e-5), np.ceil(step / (0.9 * _STEP)), 1).astype(int)
    place = np.concatenate([np.arange(n) / n for n in parts])
    new = np.append(np.repeat(wave[:-1], parts) * np.exp(np.repeat(step, parts) * place), wave[-1])
    return new, np.interp(new, wave, transmission)


def _read_curve(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    if path.suffix.lower() in (".h5", ".hdf5"):
        with open_hdf5(path, "FilterSet.from_files", ("wave", "transmission")) as file:
            return file["wave"][()], file["transmission"][()]
    require_file(path, "FilterSet.from_files")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty file, told below
            columns = np.loadtxt(path, comments=("#", "\\"), ndmin=2)
    except ValueError as error:
        raise ValueError(f"FilterSet.from_files: {str(path)!r} is not two columns of numbers [{error}].") from error
    if columns.shape[0] == 0 or columns.shape[1] < 2:
        raise ValueError(f"FilterSet.from_files: {str(path)!r} must hold two columns; got shape {columns.shape}.")
    return columns[:, 0], columns[:, 1]


def _pivot(wave: np.ndarray, transmission: np.ndarray) -> float:
    w, t = np.asarray(wave, float), np.asarray(transmission, float)
    nodes, weights = gauss_legendre(4)
    at = w[:-1, None] + np.diff(w)[:, None] * nodes
    value = np.interp(at, w, t) * np.diff(w)[:, None] * weights
    return float(np.sqrt((value * at).sum() / (value / at).sum()))


def _outside(wave: np.ndarray, transmission: np.ndarray, lo: float, hi: float) -> float:
    """Share of the integral of T dlambda/lambda outside [lo, hi]."""
    fine = np.union1d(np.asarray(wave, float), np.clip([lo, hi], wave[0], wave[-1]))
    value = np.interp(fine, wave, transmission) / fine
    part = np.diff(fine) * (value[1:] + value[:-1]) / 2
    middle = (fine[1:] + fine[:-1]) / 2
    return float(part[(middle < lo) | (middle > hi)].sum() / part.sum())
