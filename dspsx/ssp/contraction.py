"""The light of stars in some of the metallicities of a large grid of spectra, one galaxy at a time.

A product with the whole grid takes as long as it takes to read the grid from memory. So for one galaxy only those spectra are read
that have weight, some rows at a time, which stay in the cache. Galaxies in a batch share what is read: for them it is the plain
product with all spectra.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._multilinear import multilinear
from dspsx._numerics import matmul, total

#: Numbers in a grid below which the plain product is as fast, and share of the spectra above which it is.
LARGE, _MOST = 2**22, 0.6
#: Spectra that are read together, for light and for products with light; bytes of each that are summed up at once in these.
_ROWS, _ROWS_BACK, _AT_ONCE = 12, 24, 64


def sum_of_spectra(
    weights: Float[Array, "row met_age"], metallicity: Float[Array, "met #age"], spectra: Float[Array, "met_age wave"]
) -> Float[Array, "row wave"]:
    """Weights times spectra, ages within metallicities; weights are zero, with their derivatives, where `metallicity` is zero."""
    has_weight = (metallicity != 0.0).any(1)
    n_age = len(spectra) // has_weight.size
    ends = jnp.stack([jnp.argmax(has_weight), has_weight.size - jnp.argmax(has_weight[::-1])]) * n_age
    return _sums({"weights": weights}, ends.astype(np.int32), (spectra,))


def _is_large(spectra):
    return spectra.size >= LARGE and len(spectra) >= _ROWS_BACK


def _value(arrays, ends, tensors, found, order):
    (spectra,) = tensors
    (given,) = arrays.values()
    of_all, of_some = (_light, _light_of_some) if found == "light" else (_products, _products_of_some)
    if ends is None or ends.ndim > 1 or given.ndim > 2 or len(given) > 2 or not _is_large(spectra):
        return of_all(given, spectra)

    def on_cpu(given, ends, spectra):
        few = ends[1] - ends[0] <= int(_MOST * len(spectra))
        return jax.lax.cond(few, of_some, lambda given, _, spectra: of_all(given, spectra), given, ends, spectra)

    # an accelerator waits for every turn of such a loop
    return jax.lax.platform_dependent(
        given, ends, spectra, cpu=on_cpu, default=lambda given, _, spectra: of_all(given, spectra)
    )


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


def _in_turns(size, ends, n, turn, result):
    """What `turn(start, fresh, result)` makes of a result, for a size of rows after the other; the last of all n are those at the
    end, of which not all are fresh."""
    size = np.int32(size)

    def one(i, result):
        start = jnp.minimum(i * size, np.int32(n) - size)
        return turn(start, start + np.arange(size, dtype=np.int32) >= i * size, result)

    return jax.lax.fori_loop(ends[0] // size, -(-ends[1] // size), one, result)
