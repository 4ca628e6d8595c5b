"""The light of stars at one redshift, of which value and derivatives there are known.

    light[screen, node] = sum over age and met of mass[screen, age] metallicity[met] T(z)[age, met, node]

A JAX primitive of its own, because it must stay linear in mass and in metallicity and differentiable in redshift at once: the
rule of a `jax.custom_jvp` is forgotten where a linear map is transposed, and with it the derivative of a gradient with respect
to redshift. One of the three arrays follows from the other two; so do its derivatives, by the same primitive.
"""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from dspsx._numerics import matmul

_ROLES = ("metallicity", "mass", "light")


def expand(
    metallicity: Float[Array, " met"],
    mass: Float[Array, "screen age"],
    redshift: Float[Array, ""],
    basis: Float[Array, "age met K"],
    table: Float[Array, "K node"],
    *derivatives: Float[Array, "age met node"],
) -> Float[Array, "screen node"]:
    """The light, with T(z) the product of `basis` and `table`, and of `derivatives` of T with respect to redshift in their order.

    A derivative of higher order than there are raises TypeError.
    """
    return _light.bind(metallicity, mass, redshift, basis, table, *derivatives, found="light", order=0)


_light = Primitive("light_at_one_redshift")

# Each of the arrays has the axes of a batch in front. `found` is the one that the other two, given in the order of _ROLES,
# lead to: the light, or what is in its place in a derivative; `order` the derivative of T that counts.


def _given(found, x, y):
    return dict(zip([role for role in _ROLES if role != found], (x, y), strict=True))


def _value(x, y, redshift, basis, table, *derivatives, found, order):
    arrays = _given(found, x, y)
    if order:
        basis, table = derivatives[order - 1], None
    n_age, n_met, n = basis.shape
    matrix = basis.reshape(n_age, -1)
    if found != "light":
        factors = arrays["light"] if table is None else matmul(arrays["light"], table.T)
    if found != "mass":
        of_met = matmul(arrays["mass"], matrix)
        of_met = of_met.reshape(*of_met.shape[:-1], n_met, n)
    if found == "metallicity":
        return matmul(of_met, factors[..., None])[..., 0].sum(-2)
    metallicity = arrays["metallicity"][..., None, :]
    if found == "mass":
        products = metallicity[..., None] * factors[..., None, :]
        return matmul(products.reshape(*products.shape[:-2], -1), matrix.T)
    # the metallicities once for each screen: a batch is slow with axes that only one of two factors has
    each = jnp.broadcast_to(metallicity[..., None, :], (*of_met.shape[:-2], 1, n_met))
    factors = matmul(each, of_met)[..., 0, :]
    return factors if table is None else matmul(factors, table)


def _shape(x, y, redshift, basis, table, *derivatives, found, order):
    lead, sizes = redshift.shape, dict(zip(_ROLES, (*basis.shape[1::-1], table.shape[1]), strict=True))
    arrays = _given(found, x, y)
    assert all(array.shape[: len(lead)] == lead and array.shape[-1] == sizes[role] for role, array in arrays.items())
    screens = next(array.shape[len(lead) : -1] for role, array in arrays.items() if role != "metallicity")
    return x.update(shape=(*lead, *(screens if found != "metallicity" else ()), sizes[found]))


def _differentiate(primals, tangents, *, found, order):
    x, y, redshift, *tables = primals
    d_x, d_y, d_redshift, *d_tables = tangents
    again = lambda x, y, order=order: _light.bind(x, y, redshift, *tables, found=found, order=order)  # noqa: E731
    value = again(x, y)
    terms = []
    if type(d_x) is not ad.Zero:
        terms.append(again(d_x, y))
    if type(d_y) is not ad.Zero:
        terms.append(again(x, d_y))
    if type(d_redshift) is not ad.Zero:
        if order == len(tables) - 2:
            raise TypeError(
                "a galaxy compressed at one redshift has two derivatives with respect to it; for a third use the full galaxy."
            )
        change = d_redshift.reshape(d_redshift.shape + (1,) * (value.ndim - d_redshift.ndim))
        terms.append(again(x, y, order + 1) * change)
    if any(type(d) is not ad.Zero for d in d_tables):
        of_tables = lambda *tables: _value(x, y, redshift, *tables, found=found, order=order)  # noqa: E731
        terms.append(jax.jvp(of_tables, tables, [*map(ad.instantiate_zeros, d_tables)])[1])
    return value, sum(terms) if terms else jnp.zeros_like(value)


def _transpose(g, x, y, redshift, *tables, found, order):
    arrays = _given(found, x, y)
    (wanted,) = (role for role, array in arrays.items() if ad.is_undefined_primal(array))
    arrays[found] = g
    if type(g) is ad.Zero:
        back = ad.Zero(arrays[wanted].aval)
    else:
        rest = [arrays[role] for role in _ROLES if role != wanted]
        back = _light.bind(*rest, redshift, *tables, found=wanted, order=order)
    return *(back if array is arrays[wanted] else None for array in (x, y)), None, *(None for _ in tables)


def _batch(args, axes, *, found, order):
    if any(axis is not None for axis in axes[3:]):
        raise NotImplementedError("a BandSSP is data, which a batch of galaxies shares: map over parameters only.")
    size = next(arg.shape[axis] for arg, axis in zip(args, axes, strict=True) if axis is not None)
    front = [batching.bdim_at_front(arg, axis, size) for arg, axis in zip(args[:3], axes[:3], strict=True)]
    return _light.bind(*front, *args[3:], found=found, order=order), 0


_light.def_impl(jax.jit(_value, static_argnames=("found", "order")))
_light.def_abstract_eval(_shape)
ad.primitive_jvps[_light] = _differentiate
ad.primitive_transposes[_light] = _transpose
batching.primitive_batchers[_light] = _batch
mlir.register_lowering(_light, mlir.lower_fun(_value, multiple_results=False))
