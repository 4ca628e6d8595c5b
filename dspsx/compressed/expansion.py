"""The light of stars at one redshift, of which value and derivatives there are known."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dspsx._multilinear import multilinear
from dspsx._numerics import matmul


def expand(
    metallicity: Float[Array, " met"],
    mass: Float[Array, "screen age"],
    redshift: Float[Array, ""],
    basis: Float[Array, "age met K"],
    table: Float[Array, "K node"],
    *derivatives: Float[Array, "age met node"],
) -> Float[Array, "screen node"]:
    r"""Light :math:`\sum_{a, Z} M_a p_Z T_{a Z n}(z)`, with T the product of `basis` and `table`, and `derivatives` those of T with
    respect to redshift, in their order. One of higher order than there are raises TypeError."""
    return _light({"metallicity": metallicity, "mass": mass}, redshift, (basis, table, *derivatives))


def _value(arrays, at, tensors, found, order):
    basis, table = tensors[:2] if order == 0 else (_derivative(order, *tensors[2:]), None)
    n_age, n_met, n = basis.shape
    if found != "light":
        factors = arrays["light"] if table is None else matmul(arrays["light"], table.T)
    if found != "metallicity" and arrays["metallicity"].ndim == 1:
        # all galaxies have the same
        matrix = matmul(arrays["metallicity"], basis)
        if found == "mass":
            return matmul(factors, matrix.T)
        factors = matmul(arrays["mass"], matrix)
        return factors if table is None else matmul(factors, table)
    # ages first: the products with the matrices of all metallicities are fewer than those of metallicities with masses
    matrix = basis.reshape(n_age, -1)
    if found == "mass":
        products = arrays["metallicity"][..., None, :, None] * factors[..., None, :]
        return matmul(products.reshape(*products.shape[:-2], -1), matrix.T)
    of_met = matmul(arrays["mass"], matrix)
    of_met = of_met.reshape(*of_met.shape[:-1], n_met, n)
    if found == "metallicity":
        return matmul(of_met, factors[..., None])[..., 0].sum(-2)
    # the metallicities once for each screen: a batch is slow with axes that only one of two factors has
    each = jnp.broadcast_to(arrays["metallicity"][..., None, None, :], (*of_met.shape[:-2], 1, n_met))
    factors = matmul(each, of_met)[..., 0, :]
    return factors if table is None else matmul(factors, table)


def _derivative(order, *derivatives):
    if order > len(derivatives):
        raise TypeError(
            "a galaxy compressed at one redshift has two derivatives with respect to it; for a third use the full galaxy."
        )
    return derivatives[order - 1]


_light = multilinear("light_at_one_redshift", {"metallicity": 1, "mass": 2, "light": 2}, _value, series=True)
