"""The embedded tables of what gas emits per ionising photon, and how they are interpolated."""

import functools
import importlib.resources
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import units
from dspsx._files import open_hdf5
from dspsx._numerics import matmul
from dspsx.nebular.photons import PHOTONS

_LINES, _CONTINUUM = "nebular_lines.h5", "nebular_continuum.h5"


class LineTable(NamedTuple):
    names: tuple[str, ...]
    logu: tuple[float, ...]
    lgmet: tuple[float, ...]
    lg_age: np.ndarray
    wave: Any
    energy: np.ndarray
    photons: np.ndarray

    def factors(self) -> tuple[Any, Any]:
        """erg per photon of a constant star formation rate (logu, met, line), and of each age relative to it
        (logu, met, age, line)."""
        steady = np.einsum("umal,ma->uml", self.energy, self.photons)
        return steady, self.energy / steady[:, :, None]


@functools.cache
def line_table() -> LineTable:
    source = importlib.resources.files("dspsx") / "data" / _LINES
    keys = ("logu", "lgmet", "lg_age", "wave", "energy", "photons")
    with importlib.resources.as_file(source) as path, open_hdf5(path, "NebularLines", (*keys, "name")) as file:
        arrays = {key: np.asarray(file[key][()], float) for key in keys}
        names = tuple(name.decode() for name in file["name"][()])
    nodes = {key: tuple(arrays.pop(key).tolist()) for key in ("logu", "lgmet")}
    return LineTable(names=names, **nodes, **arrays)


@functools.cache
def continuum_table() -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Factors (logu, met, age, factor); for each step of the axis the spectra in Lsun/Hz per 1e46 photons per second, and
    their change over it (step, 2 x factor); the axis: first wavelength in Angstrom, and step in its logarithm."""
    source = importlib.resources.files("dspsx") / "data" / _CONTINUUM
    keys = ("wave", "factors", "spectra")
    with importlib.resources.as_file(source) as path, open_hdf5(path, "NebularLines", keys) as file:
        wave, factors, spectra = (np.asarray(file[key][()], float) for key in keys)
    spectra = spectra.T * (PHOTONS / units.LSUN_CGS)
    axis = float(wave[0]), float(np.log(wave[-1] / wave[0]) / (wave.size - 1))
    steps = np.concatenate([spectra[:-1], np.diff(spectra, axis=0)], axis=1)
    return factors, steps, axis


def interpolate(
    spectra: Float[Array, "step two_factor"], axis: tuple[float, float], wave: Float[Array, " wave"]
) -> Float[Array, "wave factor"]:
    """Spectra of `continuum_table` at any wavelengths; zero outside of theirs."""
    first, step = axis
    # one row for each wavelength, of what no gradient goes into: the transpose of taking numbers from a table is slow
    x = jnp.log(wave / first) / step
    inside = (x >= 0) & (x <= len(spectra))
    x = jnp.where(inside, x, 0.0)
    row = jnp.minimum(x.astype(jnp.int32), len(spectra) - 1)
    value, change = jnp.split(spectra.astype(wave.dtype).at[row].get(mode="promise_in_bounds"), 2, axis=1)
    light = value + (x - row.astype(x.dtype))[:, None] * change
    return jnp.where(inside[:, None], light, 0.0)


def _distance(x, nodes: tuple[float, ...]):
    """(x - node) in units of the gap to the next node on that side (positive to the right); and those gaps (left, right)."""
    node = np.asarray(nodes)
    gaps = np.diff(node)
    left, right = np.append(gaps[0], gaps), np.append(gaps, gaps[-1])
    d = x - jnp.asarray(node, x.dtype)
    t = jnp.where(d < 0, d * jnp.asarray(1 / left, x.dtype), d * jnp.asarray(1 / right, x.dtype))
    return jnp.clip(t, -1.0, 1.0), left, right


def cubic(x: Float[Array, ""], nodes: tuple[float, ...]) -> Float[Array, " node"]:
    """Weights of the nodes in interpolation at x by Hermite cubics whose slopes are those of parabolas through three nodes."""
    t, left, right = _distance(x, nodes)
    size, rest = jnp.abs(t), 1.0 - jnp.abs(t)
    value = rest * rest * (1.0 + 2.0 * size)
    slope = t * rest * rest * jnp.where(t < 0, jnp.asarray(left, t.dtype), jnp.asarray(right, t.dtype))
    slopes = np.gradient(np.eye(len(nodes)), np.asarray(nodes), axis=0, edge_order=2)
    return value + matmul(slope, slopes)
