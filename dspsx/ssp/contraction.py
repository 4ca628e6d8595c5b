"""The light of stars in some of the metallicities of a large grid of spectra.

Most galaxies have stars in some of the metallicities alone. A product of one galaxy with the whole grid takes as long as it takes
to read the grid from memory, so only those spectra are read that have weight, some rows at a time, which stay in the cache.
Galaxies in a batch share what is read: for them it is a product of matrices, of those metallicities where any of them has stars
(`dspsx.predict` puts galaxies in the order of theirs).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._multilinear import multilinear
from dspsx._numerics import matmul, total

#: Numbers in a grid below which the plain product is as fast.
LARGE = 2**22
#: Share of the metallicities above which it is, for one galaxy and for a batch of at least so many rows.
_MOST, _MOST_OF_BATCH, _BATCH = 0.6, 0.75, 48
#: Spectra of one galaxy that are read together, for light and for products with light; bytes of each that are summed up at once in
#: these.
_ROWS, _ROWS_BACK, _AT_ONCE = 12, 24, 64
#: Of a batch: about as many spectra are multiplied with its light at once; as many wavelengths are found of its light at once; and
#: so many programs there are for that, each for a number of metallicities.
_SPECTRA, _WAVES, _PROGRAMS = 192, 512, 6


def sum_of_spectra(
    weights: Float[Array, "row met_age"], metallicity: Float[Array, "met #age"], spectra: Float[Array, "met age wave"]
) -> Float[Array, "row wave"]:
    """Weights times spectra, ages within metallicities; weights are zero, with their derivatives, where `metallicity` is zero."""
    has_weight = (metallicity != 0.0).any(1)
    ends = jnp.stack([jnp.argmax(has_weight), has_weight.size - jnp.argmax(has_weight[::-1])])
    return _sums({"weights": weights}, ends.astype(np.int32), (spectra,))


def _value(arrays, ends, tensors, found, order):
    (spectra,), (given,) = tensors, arrays.values()
    n_met, n_age, n_wave = spectra.shape
    spectra, rows = spectra.reshape(n_met * n_age, n_wave), given.reshape(-1, given.shape[-1])
    of_all = _light if found == "light" else _products
    if ends is None or spectra.size < LARGE or len(spectra) < _ROWS_BACK:
        return of_all(given, spectra)
    some = _of_some(found, len(rows), ends.ndim > 1, n_met, n_age)
    if not some:
        return of_all(given, spectra)
    ends = ends.reshape(-1, 2)
    ends = jnp.stack([ends[:, 0].min(), ends[:, 1].max()])

    def on_cpu(given, ends, spectra):
        which = jnp.searchsorted(np.array(list(some), np.int32), ends[1] - ends[0])
        programs = [*some.values(), lambda given, _, spectra: of_all(given, spectra)]
        return jax.lax.switch(which, programs, given, ends * np.int32(n_age), spectra)

    # an accelerator waits for every turn of such a loop
    result = jax.lax.platform_dependent(
        rows, ends, spectra, cpu=on_cpu, default=lambda given, _, spectra: of_all(given, spectra)
    )
    return result.reshape(*given.shape[:-1], -1)


def _of_some(found, n_rows, batched, n_met, n_age):
    """What gives light, or products with it, by the number of metallicities for which it is good, smallest first."""
    if n_rows <= 2 and not batched:
        return {int(_MOST * n_met): _light_of_some if found == "light" else _products_of_some}
    most = int(_MOST_OF_BATCH * n_met)
    if n_rows < _BATCH or most == 0:
        return {}
    if found == "light":
        counts = sorted({-(-most * (i + 1) // _PROGRAMS) for i in range(_PROGRAMS)})
        return {count: functools.partial(_light_of_batch, count * n_age) for count in counts}
    return {most: functools.partial(_products_of_batch, n_age * min(most, max(1, _SPECTRA // n_age)))}


_sums = multilinear("sum_of_spectra", {"weights": 2, "light": 2}, _value, at_axes=1)


def _light(weights, spectra):
    return matmul(weights, spectra)


def _products(light, spectra):
    contracted = ((light.ndim - 1,), (1,)), ((), ())
    return jax.lax.dot_general(light, spectra, contracted, precision=jax.lax.Precision.HIGHEST)


def _light_of_some(weights, ends, spectra):
    def add(start, fresh, light):
        rows = jax.lax.dynamic_slice_in_dim(spectra, start, _ROWS)
        some = jnp.where(fresh[None, :], jax.lax.dynamic_slice_in_dim(weights, start, _ROWS, axis=1), 0.0)
        return light + total(some[:, k, None] * rows[None, k] for k in range(_ROWS))

    return _in_turns(_ROWS, ends, len(spectra), add, jnp.zeros((len(weights), spectra.shape[1]), weights.dtype))


def _products_of_some(light, ends, spectra):
    n = spectra.shape[1]
    parts = _AT_ONCE // spectra.dtype.itemsize
    width = n // parts // parts * parts
    cuts, end = [slice(i * width, (i + 1) * width) for i in range(parts)], slice(parts * width, n)

    def put(start, _, products):
        rows = jax.lax.dynamic_slice_in_dim(spectra, start, _ROWS_BACK)
        # a loop over the parts, which vectorises, and a short product
        each = total(light[:, None, cut] * rows[None, :, cut] for cut in cuts)
        new = matmul(each, jnp.ones(width, each.dtype)) + (light[:, None, end] * rows[None, :, end]).sum(-1)
        return jax.lax.dynamic_update_slice_in_dim(products, new, start, axis=1)

    return _in_turns(_ROWS_BACK, ends, len(spectra), put, jnp.zeros((len(light), len(spectra)), light.dtype))


def _light_of_batch(size, weights, ends, spectra):
    n, n_wave = spectra.shape
    width, first = min(_WAVES, n_wave), jnp.minimum(ends[0], np.int32(n - size))
    some = jax.lax.dynamic_slice_in_dim(weights, first, size, axis=1)

    def put(i, light):
        wave = jnp.minimum(i * np.int32(width), np.int32(n_wave - width))
        here = matmul(some, jax.lax.dynamic_slice(spectra, (first, wave), (size, width)))
        return jax.lax.dynamic_update_slice_in_dim(light, here, wave, axis=1)

    empty = jnp.zeros((len(weights), n_wave), weights.dtype)
    return jax.lax.fori_loop(np.int32(0), np.int32(-(-n_wave // width)), put, empty)


def _products_of_batch(size, light, ends, spectra):
    def put(start, _, products):
        new = _products(light, jax.lax.dynamic_slice_in_dim(spectra, start, size))
        return jax.lax.dynamic_update_slice_in_dim(products, new, start, axis=1)

    return _in_turns(size, ends, len(spectra), put, jnp.zeros((len(light), len(spectra)), light.dtype))


def _in_turns(size, ends, n, turn, result):
    """What `turn(start, fresh, result)` makes of a result, for a size of rows after the other; the last of all n are those at the
    end, of which not all are fresh."""
    size = np.int32(size)

    def one(i, result):
        start = jnp.minimum(i * size, np.int32(n) - size)
        return turn(start, start + np.arange(size, dtype=np.int32) >= i * size, result)

    return jax.lax.fori_loop(ends[0] // size, -(-ends[1] // size), one, result)
