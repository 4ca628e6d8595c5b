"""What gas in a state, its ionisation parameter and metallicity, makes of the photons of stars of each age."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dspsx._multilinear import multilinear
from dspsx._numerics import matmul


def of_photons(
    logu: Float[Array, " logu"],
    lgmet: Float[Array, " met"],
    photons: Float[Array, "screen age"],
    table: Float[Array, "logu met age n"],
) -> Float[Array, "screen n"]:
    """Sum over ages of the photons times the table, in which `logu` and `lgmet` are the weights of its nodes.

    Where all galaxies of a batch have the same state, or the same log U, the table is interpolated to that once.
    """
    arrays = {"logu": logu, "lgmet": lgmet, "photons": photons}
    return _emission(arrays, jnp.zeros((), photons.dtype), (table,))


def _value(arrays: Any, at: Any, tensors: Any, found: str, order: int) -> Any:
    (table,) = tensors
    n_logu, n_met, n_age, n = table.shape
    logu, lgmet, photons, emission = (arrays.get(role) for role in _ROLES)
    if found != "logu" and logu.ndim == 1:
        table = matmul(logu, table.reshape(n_logu, -1)).reshape(n_met, n_age * n)
        if found != "lgmet" and lgmet.ndim == 1:
            table = matmul(lgmet, table).reshape(n_age, n)
            return matmul(photons, table) if found == "emission" else matmul(emission, table.T)
        table = table.reshape(n_met * n_age, n)
        if found == "emission":
            products = lgmet[..., None, :, None] * photons[..., None, :]
            return matmul(products.reshape(*photons.shape[:-1], -1), table)
        each = matmul(emission, table.T).reshape(*emission.shape[:-1], n_met, n_age)
        if found == "photons":
            return (each * lgmet[..., None, :, None]).sum(-2)
        return (each * photons[..., None, :]).sum((-3, -1))
    table = table.reshape(n_logu * n_met, -1)
    n_axes = (emission if found == "photons" else photons).ndim - 1
    logu, lgmet = (_with_axes(x, n_axes) for x in (logu, lgmet))
    if found in ("emission", "photons"):
        # the state first, since all screens share it
        state = logu[..., :, None] * lgmet[..., None, :]
        of_age = matmul(state.reshape(*state.shape[:-2], -1), table)
        of_age = of_age.reshape(*of_age.shape[:-1], n_age, n)
        return matmul(photons, of_age) if found == "emission" else matmul(emission, of_age.swapaxes(-1, -2))
    of_age = matmul(photons.swapaxes(-1, -2), emission)
    of_state = matmul(of_age.reshape(*of_age.shape[:-2], -1), table.T)
    of_state = of_state.reshape(*of_state.shape[:-1], n_logu, n_met)
    return (of_state * lgmet[..., None, :]).sum(-1) if found == "logu" else (of_state * logu[..., :, None]).sum(-2)


def _with_axes(x: Any, n: int) -> Any:
    return x if x is None else x.reshape(*(1,) * (n - x.ndim), *x.shape)


_ROLES = {"logu": 1, "lgmet": 1, "photons": 2, "emission": 2}
_emission = multilinear("emission_of_gas", _ROLES, _value)
