"""Sums of products of a galaxy's arrays with a tensor that is the same for all galaxies, in the order that is quickest.

Plain products would do, but for two things. Which order is quickest depends on which of the arrays a whole batch shares, and that
is known only where a program is mapped over the batch. And a tensor may depend on a number, say the redshift, of which value and
derivatives are known at one place: the rule of a `jax.custom_jvp` is forgotten where a linear map is transposed, and with it the
derivative of a gradient with respect to that number.

So each such sum is a JAX primitive. It has arrays in several roles, is linear in each, and gives any of them, `found`, for the
others: the result, or what stands in the place of an argument in a derivative, which is the same primitive again.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def multilinear(
    name: str,
    roles: dict[str, int],
    value: Callable,
    *,
    series: bool = False,
    at_axes: int = 0,
) -> Callable:
    """A function `found = f(arrays, at, tensors)` of arrays (role: array), a number, and tensors.

    **Arguments:** `roles`, in order, and the axes that an array in each has, of which the last role is the result's; those with
    two have one axis in common, the first. `value(arrays, at, tensors, found, order)` computes, of arrays in all roles but
    `found`, the array in that, for the derivative `order` of the tensors with respect to the number. Arrays may have the axes of a
    batch in front, all the same; those with one axis in `roles` may be without them, where a batch shares them. A derivative for
    which `value` raises TypeError raises that. `series`: whether there are such derivatives. If not, `at` may be whole numbers with
    `at_axes` axes, that say which part of the tensors matters; it is None where `value` is to be differentiated, or mapped, itself.
    """
    names = tuple(roles)
    sums = Primitive(name)

    def given(found, arrays):
        return dict(zip([role for role in names if role != found], arrays, strict=True))

    def bind(arrays, at, tensors, found, order):
        return sums.bind(*(arrays[role] for role in names if role != found), at, *tensors, found=found, order=order)

    def split(args):
        n = len(names) - 1
        return args[:n], args[n], args[n + 1 :]

    def computed(*args, found, order):
        arrays, at, tensors = split(args)
        return value(given(found, arrays), at, tensors, found, order)

    def with_all(*args, found, order):
        arrays, _, tensors = split(args)
        return value(given(found, arrays), None, tensors, found, order)

    def shape(*args, found, order):
        like = jax.eval_shape(lambda *args: computed(*args, found=found, order=order), *args)
        return args[0].update(shape=like.shape, dtype=like.dtype)

    def differentiate(primals, tangents, *, found, order):
        (arrays, at, tensors), (d_arrays, d_at, d_tensors) = split(primals), split(tangents)
        arrays, d_arrays = given(found, arrays), given(found, d_arrays)
        result = bind(arrays, at, tensors, found, order)
        some = {role: d for role, d in d_arrays.items() if type(d) is not ad.Zero}
        terms = [bind(arrays | {role: d}, at, tensors, found, order) for role, d in some.items()]
        if type(d_at) is not ad.Zero:
            change = d_at.reshape(d_at.shape + (1,) * (result.ndim - d_at.ndim))
            terms.append(bind(arrays, at, tensors, found, order + 1) * change)
        if any(type(d) is not ad.Zero for d in d_tensors):
            of_tensors = lambda *tensors: value(arrays, None, tensors, found, order)  # noqa: E731
            terms.append(jax.jvp(of_tensors, tuple(tensors), tuple(map(ad.instantiate_zeros, d_tensors)))[1])
        return result, sum(terms) if terms else jnp.zeros_like(result)

    def transpose(g, *args, found, order):
        arrays, at, tensors = split(args)
        arrays = given(found, arrays)
        (wanted,) = (role for role, array in arrays.items() if ad.is_undefined_primal(array))
        aval = arrays.pop(wanted).aval
        if type(g) is ad.Zero:
            back = ad.Zero(aval)
        else:
            back = bind(arrays | {found: g}, at, tensors, wanted, order)
            back = back.sum(tuple(range(back.ndim - aval.ndim)))  # over a batch that shares it
        return *(back if role == wanted else None for role in names if role != found), *(
            None for _ in range(1 + len(tensors))
        )

    def batch(args, axes, *, found, order):
        (arrays, at, tensors), (of_arrays, of_at, of_tensors) = split(args), split(axes)
        if any(axis is not None for axis in of_tensors):
            if series:
                raise NotImplementedError(
                    f"{name}: the tables are data, which a batch of galaxies shares: map over parameters only."
                )
            # tensors with an axis of their own: `jax.lax.cond` in a batch gives one to all that its branches use
            return jax.vmap(functools.partial(with_all, found=found, order=order), axes)(*args), 0
        size = next(arg.shape[axis] for arg, axis in zip(args, axes, strict=True) if axis is not None)
        n_lead = at.ndim - (of_at is not None) - at_axes  # axes of batches that there are already
        at = batching.bdim_at_front(at, of_at, size)
        front = {}
        for (role, array), axis in zip(given(found, arrays).items(), of_arrays, strict=True):
            alone = array.ndim - (axis is not None) == roles[role] < roles[role] + n_lead
            if axis is not None and alone:  # shared by the other batches, but not by this one
                array = jnp.moveaxis(array, axis, 0)
                array = jnp.broadcast_to(
                    array.reshape(size, *(1,) * n_lead, -1), (size, *at.shape[1 : 1 + n_lead], array.shape[-1])
                )
            elif not (axis is None and roles[role] == 1 and array.ndim == 1):
                array = batching.bdim_at_front(array, axis, size)
            front[role] = array
        return bind(front, at, tensors, found, order), 0

    sums.def_impl(jax.jit(computed, static_argnames=("found", "order")))
    sums.def_abstract_eval(shape)
    ad.primitive_jvps[sums] = differentiate
    ad.primitive_transposes[sums] = transpose
    batching.primitive_batchers[sums] = batch
    mlir.register_lowering(sums, mlir.lower_fun(computed, multiple_results=False))

    def call(arrays: dict[str, Any], at: Any, tensors: tuple[Any, ...]) -> Any:
        dtype = np.result_type(*(x.dtype for x in arrays.values()))
        at = at if jnp.issubdtype(at.dtype, jnp.integer) else at.astype(dtype)
        return bind({role: x.astype(dtype) for role, x in arrays.items()}, at, tensors, names[-1], 0)

    return call
