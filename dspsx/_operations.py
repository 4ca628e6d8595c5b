"""What can be done with every model: choose its parameters, batch it, change it, print it."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dspsx._model import (
    DATA,
    FOREIGN,
    AbstractModel,
    Parameter,
    check_value,
    child,
    infos,
    interval,
    is_batched,
    is_concrete,
    named_parameters,
    plain,
)
from dspsx._numerics import to_bounded, to_unbounded

M = TypeVar("M")


class _Mark:
    """Leaf of the tree in which `partition` marks what was chosen."""

    def __init__(self, info: Parameter | str, chosen: bool):
        self.info, self.chosen = info, chosen


def partition(model: M, where: Callable[[Any], Any] | None = None, *, physical: bool = False) -> tuple[M, M]:
    """Split a model into the parameters to fit, on the whole real line, and everything else.

    `theta, rest = partition(model)` takes every free parameter; `where=lambda g: (g.sfh, g.dust.av)` only the free
    parameters of those components, and parameters named one by one whether free or not. Each value x of theta is
    mapped from its bounds (lo, hi) to u in (-inf, inf): a logit between two bounds, an inverse softplus above one.
    `combine(theta, rest)` gives the model back; a value exactly on a bound comes back 1e-6 of the range inside. With
    `physical=True` theta keeps physical units (for gradients to look at); give it to `combine` too.

    Raises ValueError if a value is NaN or out of bounds, or nothing is chosen; TypeError if data are chosen.
    """
    marks = jax.tree.map(
        lambda info: _Mark(info, where is None and isinstance(info, Parameter) and info.free), infos(model)
    )
    if where is not None:
        marks = eqx.tree_at(where, marks, replace_fn=_choose, is_leaf=_is_none)
    mask = jax.tree.map(lambda mark: mark.chosen, marks)
    if not any(jax.tree.leaves(mask)):
        raise ValueError("partition: no free parameter was chosen. Name parameters, or components that have free ones.")
    chosen, rest = eqx.partition(model, mask)
    for name, (info, value) in named_parameters(chosen).items():
        if is_concrete(value):
            check_value(f"{type(model).__name__}.{name}", info, value)
    if physical:
        return chosen, rest
    theta = jax.tree.map(lambda x, mark: to_unbounded(x, *mark.info.bounds), chosen, _where_not_none(marks, chosen))
    return theta, rest


def _choose(node: Any) -> Any:
    if isinstance(node, _Mark):
        if node.info == DATA:
            raise TypeError("partition: `where` chose data (a grid or a table). Data are never fitted.")
        return _Mark(node.info, True)
    return jax.tree.map(lambda m: _Mark(m.info, isinstance(m.info, Parameter) and m.info.free), node)


def _where_not_none(tree: Any, like: Any) -> Any:
    is_leaf = lambda x: isinstance(x, _Mark | Parameter)  # noqa: E731
    return jax.tree.map(lambda t, x: None if x is None else t, tree, like, is_leaf=is_leaf)


def combine(theta: M, rest: M, *, physical: bool = False) -> M:
    """The model again, from the two halves that `partition` made; differentiable in both.

    Raises ValueError for halves of models that are built differently.
    """
    try:
        full = eqx.combine(theta, rest)
    except ValueError as error:
        raise ValueError(
            "combine(theta, rest): the halves are of models that are built differently, such as a compressed galaxy and the full "
            "one. Combine each with its own; to see a fit of the compressed `best` in full, give it the grid: "
            "dataclasses.replace(best, ssp=galaxy.ssp)."
        ) from error
    kinds = infos(full)
    if any(isinstance(kind, str) for kind in jax.tree.leaves(_where_not_none(kinds, theta))):
        raise ValueError(
            "combine(theta, rest): the first half holds data, so the halves are exchanged, or not of `partition`."
        )
    if physical:
        return full

    def bounded(info, u, x):
        return x if u is None else to_bounded(u, *info.bounds)

    return jax.tree.map(bounded, kinds, theta, full)


def stack(models: Sequence[M]) -> M:
    """One batch from many models of the same classes: parameters gain a leading axis, data are shared, not copied.

    Evaluate it with `eqx.filter_vmap(fn, in_axes=(dspsx.batch_axes(batch),))(batch)`.
    """
    if isinstance(models, AbstractModel):
        raise TypeError(f"stack: expected a list of models; got one {type(models).__name__}.")
    models = list(models)
    if not models:
        raise ValueError("stack needs at least one model.")
    for i, model in enumerate(models):
        if not isinstance(model, AbstractModel):
            raise TypeError(f"stack: expected models of dspsx; model {i} is {model!r:.60} ({type(model).__name__}).")
    first = models[0]
    structure = jax.tree.structure(first)
    for i, model in enumerate(models[1:], 1):
        if jax.tree.structure(model) != structure:
            raise ValueError(
                f"stack: model {i} is built differently from model 0 (other classes, names or switches):\n{model}\nand\n{first}"
            )

    def merge(info, *leaves):
        if isinstance(info, Parameter):
            return jnp.stack(leaves)
        for leaf in leaves[1:]:
            if leaf is not leaves[0] and not _same(leaf, leaves[0]):
                raise ValueError("stack: the models hold different data (grid, filters or tables); a batch shares one.")
        return leaves[0]

    return jax.tree.map(merge, infos(first), *models)


def _same(a: Any, b: Any) -> bool:
    if eqx.is_array(a) and eqx.is_array(b):
        return a.shape == b.shape and a.dtype == b.dtype and bool((a == b).all())
    return a is b or a == b


def batch_axes(model: M, shared: Callable[[Any], Any] | None = None) -> M:
    """The axes of a batch, for `in_axes` and `out_axes` of a vmap: 0 at each batched parameter, None elsewhere.

    Of one galaxy it gives the axes of a batch of such galaxies, all parameters batched but those of the components that
    `shared=lambda g: g.cosmology` leaves out; of a batch, its own axes.
    """
    kinds = infos(model)
    is_batch = any(is_batched(info, x) for info, x in zip(jax.tree.leaves(kinds), jax.tree.leaves(model), strict=True))

    def axis(info, x):
        return 0 if isinstance(info, Parameter) and (info is FOREIGN or not is_batch or is_batched(info, x)) else None

    axes = jax.tree.map(axis, kinds, model)
    if shared is None:
        return axes
    return eqx.tree_at(shared, axes, replace_fn=lambda node: jax.tree.map(lambda _: None, node), is_leaf=_is_none)


def _is_none(x: Any) -> bool:
    return x is None


def take(batch: M, index: Any, shared: Callable[[Any], Any] | None = None) -> M:
    """The galaxy (an integer) or the smaller batch (a slice, an array) at `index` of a batch.

    `shared` names foreign modules (a network) that the whole batch has in common, as in `batch_axes`.
    """
    lengths = {np.shape(x)[0] for info, x in named_parameters(batch).values() if is_batched(info, x)}
    if not lengths:
        raise ValueError(f"take: this {type(batch).__name__} is one model, not a batch.")
    n = min(lengths)
    if isinstance(index, int) and not -n <= index < n:
        raise IndexError(f"take: index {index} is outside a batch of {n}.")
    axes = batch_axes(batch, shared)
    return jax.tree.map(lambda axis, x: x if axis is None else x[index], axes, batch, is_leaf=_is_none)


def replace(model: M, where: Callable[[Any], Any], value: Any) -> M:
    """A model with one or more parameters (or whole components) changed; the original is left as it is.

    `replace(galaxy, lambda g: g.dust.av, 0.5)`, or with a tuple on both sides. A number keeps the dtype and the shape
    of the one that it replaces. Raises ValueError for another shape, NaN, or a value out of bounds; TypeError for a galaxy's
    component of another kind. `None` is a component that is not there, `replace(galaxy, lambda g: g.lines, None)`, and back.
    """
    nodes = where(model)
    many = isinstance(nodes, tuple | list)
    values = list(value) if many else [value]
    nodes = list(nodes) if many else [nodes]
    if len(values) != len(nodes):
        raise ValueError(f"replace: {len(nodes)} place(s) were chosen and {len(values)} value(s) given.")
    places = where(jax.tree_util.tree_map_with_path(lambda path, info: (path, info), infos(model)))
    for place in places if many else [places]:
        if type(place) is tuple and place[1] == DATA:
            owner = functools.reduce(child, place[0][:-1], model)
            raise ValueError(
                f"replace: {type(owner).__name__}.{place[0][-1].name} is data, of which no single array can change; build the "
                "grid or table anew and replace it whole."
            )
    new = [_like(node, v) for node, v in zip(nodes, values, strict=True)]
    # a component that is not there, such as no emission lines, is a place as well
    model = eqx.tree_at(where, model, new if many else new[0], is_leaf=lambda x: x is None)
    for name, (info, x) in named_parameters(model).items():
        if is_concrete(x):
            check_value(f"{type(model).__name__}.{name}", info, x)
    if not any(is_batched(info, x) for info, x in named_parameters(model).values()):
        _check_again(model)
    return model


def _check_again(model: Any) -> None:
    """The checks of construction, of a model and of the components in it."""
    for field in dataclasses.fields(model):
        is_ours = lambda x: isinstance(x, AbstractModel)  # noqa: E731
        for part in jax.tree.leaves(getattr(model, field.name), is_leaf=is_ours):
            if is_ours(part):
                _check_again(part)
    for cls in type(model).__mro__:
        if "__check_init__" in vars(cls):
            vars(cls)["__check_init__"](model)


def _like(old: Any, new: Any) -> Any:
    if not eqx.is_array(old):
        return new
    try:
        array = jnp.asarray(plain("replace: the value", new), dtype=old.dtype)
    except ValueError as error:
        raise TypeError(f"replace: a parameter is a number or an array of them; got {new!r}.") from error
    if array.shape != old.shape:
        raise ValueError(f"replace: the value has shape {array.shape}, but the parameter has shape {old.shape}.")
    return array


def summary(model: Any, file=None) -> None:
    """Print a table of a model's parameters: name, value, unit, bounds, free or fixed."""
    rows = [("parameter", "value", "unit", "bounds", "")]
    for name, (info, value) in named_parameters(model).items():
        bounds = interval(dataclasses.replace(info, unit=""))
        rows.append((name, _show(value), info.unit, bounds, "free" if info.free else "fixed"))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    line = "  ".join("-" * w for w in widths).rstrip()
    print(type(model).__name__, file=file or sys.stdout)
    for i, row in enumerate(rows):
        print(
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip(),
            file=file or sys.stdout,
        )
        if i == 0:
            print(line, file=file or sys.stdout)


def _show(value: Any) -> str:
    if not is_concrete(value):
        return "traced"
    x = np.asarray(value)
    if x.ndim == 0:
        return f"{x:.5g}"
    return f"{x.shape}: {x.min():.4g} to {x.max():.4g}" if x.size else str(x.shape)
