"""The product of a vector with a matrix that depends on redshift, of which value and derivatives at one redshift are known.

A JAX primitive of its own, because it must stay linear in the vector and differentiable in redshift at once: the rule of a
`jax.custom_jvp` is forgotten where a linear map is transposed, and with it the derivative of a gradient with respect to redshift.
"""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from dspsx._numerics import matmul


def expand(
    x: Float[Array, "*batch n"], redshift: Float[Array, " *lead"], *derivatives: Float[Array, "n m"]
) -> Float[Array, "*batch m"]:
    """x times the first of the matrices; the others are its derivatives with respect to redshift, in their order.

    A derivative of higher order than there are matrices raises TypeError.
    """
    return _product.bind(x, redshift, *derivatives, transposed=False)


_product = Primitive("product_with_series")


def _value(x, redshift, *derivatives, transposed):
    return matmul(x, derivatives[0].T if transposed else derivatives[0])


def _shape(x, redshift, *derivatives, transposed):
    n, m = derivatives[0].shape[::-1] if transposed else derivatives[0].shape
    assert x.shape[-1] == n and x.shape[: redshift.ndim] == redshift.shape, (x.shape, redshift.shape, n)
    return x.update(shape=(*x.shape[:-1], m))


def _differentiate(primals, tangents, *, transposed):
    x, redshift, *derivatives = primals
    d_x, d_redshift, *d_derivatives = tangents
    light = _product.bind(*primals, transposed=transposed)
    terms = []
    if type(d_x) is not ad.Zero:
        terms.append(_product.bind(d_x, redshift, *derivatives, transposed=transposed))
    if type(d_redshift) is not ad.Zero:
        if len(derivatives) == 1:
            raise TypeError(
                "a galaxy compressed at one redshift has two derivatives with respect to it; for a third use the full galaxy."
            )
        change = d_redshift.reshape(d_redshift.shape + (1,) * (light.ndim - d_redshift.ndim))
        terms.append(_product.bind(x, redshift, *derivatives[1:], transposed=transposed) * change)
    if type(d_derivatives[0]) is not ad.Zero:
        terms.append(matmul(x, d_derivatives[0].T if transposed else d_derivatives[0]))
    return light, sum(terms) if terms else jnp.zeros_like(light)


def _transpose(g, x, redshift, *derivatives, transposed):
    assert ad.is_undefined_primal(x)
    back = (
        ad.Zero(x.aval) if type(g) is ad.Zero else _product.bind(g, redshift, *derivatives, transposed=not transposed)
    )
    return back, None, *(None for _ in derivatives)


def _batch(args, axes, *, transposed):
    x, redshift, *derivatives = args
    if any(axis is not None for axis in axes[2:]):
        raise NotImplementedError("a BandSSP is data, which a batch of galaxies shares: map over parameters only.")
    size = next(arg.shape[axis] for arg, axis in zip(args, axes, strict=True) if axis is not None)
    x, redshift = (batching.bdim_at_front(arg, axis, size) for arg, axis in zip((x, redshift), axes, strict=False))
    return _product.bind(x, redshift, *derivatives, transposed=transposed), 0


_product.def_impl(jax.jit(_value, static_argnames="transposed"))
_product.def_abstract_eval(_shape)
ad.primitive_jvps[_product] = _differentiate
ad.primitive_transposes[_product] = _transpose
batching.primitive_batchers[_product] = _batch
mlir.register_lowering(_product, mlir.lower_fun(_value, multiple_results=False))
