"""What a model is: parameters, data and static fields, and the operations that hold for every model.

A model is an immutable `equinox.Module`. Its fields are of three kinds: `param` (a number in physical units: traced,
batched, fitted if free), `data` (an array such as a spectral grid: traced, shared, never fitted) and
`equinox.field(static=True)` (a name or a switch). A field that holds another module is a component. Arrays of a
module that is not ours (an `eqx.nn.MLP`, say) count as free parameters without bounds.
"""

import dataclasses
import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from dspsx._numerics import to_bounded, to_unbounded

if TYPE_CHECKING:  # a checker does not see that fields convert what they are given
    Scalar = Number = Any
else:
    Scalar = Float[Array, ""]
    #: What a method takes where a number is meant.
    Number = Float[Array, ""] | float | int
M = TypeVar("M")
_KEY = "dspsx"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What is known of a parameter besides its value: it lives on the class, never in the tree."""

    bounds: tuple[float | None, float | None] = (None, None)
    unit: str = ""
    doc: str = ""
    free: bool = True
    ndim: int = 0


DATA = "data"
FOREIGN = Parameter(doc="array of a foreign module")


def _as_float(x: Any) -> Any:
    """Strongly typed array of the default float dtype; what cannot be one is left for the check that names the field."""
    try:
        return jnp.asarray(x, dtype=float)
    except (TypeError, ValueError):
        return x


def param(
    default: Any = dataclasses.MISSING,
    *,
    bounds: tuple[float | None, float | None] = (None, None),
    unit: str = "",
    doc: str = "",
    free: bool = True,
    ndim: int = 0,
) -> Any:
    """Declare a parameter: a float leaf in physical units.

    **Arguments:** `default` value (none: it must be given); `bounds` of the domain, inclusive, `None` for an open
    side; `unit` and `doc` for tables and errors; `free=False` for one that is fitted only when asked for by name;
    `ndim` 0 for a number, 1 for a table.
    """
    info = Parameter(bounds, unit, doc, free, ndim)
    kwargs = {} if default is dataclasses.MISSING else {"default": default}
    return eqx.field(converter=_as_float, metadata={_KEY: info}, **kwargs)


def data(default: Any = dataclasses.MISSING, *, doc: str = "", convert: bool = True) -> Any:
    """Declare data: arrays that are traced but never fitted, never stacked, and shared by a batch of galaxies."""
    kwargs = {} if default is dataclasses.MISSING else {"default": default}
    if convert:
        kwargs["converter"] = _as_float
    return eqx.field(metadata={_KEY: DATA, "doc": doc}, **kwargs)


def is_concrete(x: Any) -> bool:
    """Whether the value of an array can be looked at now (it is not being traced)."""
    return not isinstance(x, Tracer)


class AbstractModel(eqx.Module):
    """Base of everything in dspsx. Checks parameters at construction: type, shape and, where concrete, value."""

    def __check_init__(self):
        for name, info in parameters_of(type(self)).items():
            _check_parameter(type(self).__name__, name, info, getattr(self, name))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if _KEY not in field.metadata and not field.metadata.get("static") and _is_number(value):
                raise TypeError(
                    f"{type(self).__name__}.{field.name} is a number that is not declared: write `{field.name}: Scalar = "
                    f"param(...)` for a parameter, `data()` for a table, or `eqx.field(static=True)` for a switch."
                )
        require_single(self)

    def __repr__(self) -> str:
        if (brief := getattr(self, "brief", None)) is not None:
            return brief()
        return eqx.tree_pformat(jax.tree.map(_readable, self, is_leaf=lambda x: hasattr(x, "brief")), width=110)


class _Text:
    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _readable(x: Any) -> Any:
    """What to print of a leaf: a number of a few digits for a concrete scalar, a line for a grid or bands."""
    if hasattr(x, "brief"):
        return _Text(x.brief())
    if eqx.is_array(x) and x.ndim == 0 and is_concrete(x):
        return float(f"{float(x):.6g}")
    return x


@functools.cache
def _field_info(cls: type) -> dict[str, Any]:
    return {f.name: f.metadata[_KEY] for f in dataclasses.fields(cls) if _KEY in f.metadata}


def parameters_of(cls: type) -> dict[str, Parameter]:
    """The parameters that a class declares, by name."""
    return {name: info for name, info in _field_info(cls).items() if isinstance(info, Parameter)}


def _interval(info: Parameter) -> str:
    lo, hi = (
        ("-inf" if info.bounds[0] is None else f"{info.bounds[0]:g}"),
        ("inf" if info.bounds[1] is None else f"{info.bounds[1]:g}"),
    )
    return f"[{lo}, {hi}]" + (f" {info.unit}" if info.unit else "")


def _check_parameter(owner: str, name: str, info: Parameter, value: Any) -> None:
    where = f"{owner}.{name}"
    if not eqx.is_inexact_array(value):
        raise TypeError(f"{where} must be a number or an array of numbers; got {value!r} ({type(value).__name__}).")
    if value.ndim != info.ndim:
        expected = "a single number" if info.ndim == 0 else f"an array with {info.ndim} dimension(s)"
        raise ValueError(
            f"{where} must be {expected}; got shape {value.shape}. One model is one galaxy: for many, build each with "
            f"eqx.filter_vmap(..., out_axes=dspsx.batch_axes(model)) or combine models with dspsx.stack."
        )
    if is_concrete(value):
        _check_value(where, info, value)


def _check_value(where: str, info: Parameter, value: Any) -> None:
    x = np.asarray(value)
    if np.isnan(x).any():
        raise ValueError(f"{where} is NaN; expected a value in {_interval(info)}.")
    if np.isinf(x).any():
        raise ValueError(f"{where} = {x[np.isinf(x)].ravel()[0]} is not finite; expected a value in {_interval(info)}.")
    lo, hi = info.bounds
    # a bound given as a Python float may round to just outside in float32
    slack = 1e-6 * max(abs(b) for b in (lo or 0.0, hi or 0.0, 1e-30))
    if (lo is not None and (x < lo - slack).any()) or (hi is not None and (x > hi + slack).any()):
        bad = x[(x < (-np.inf if lo is None else lo)) | (x > (np.inf if hi is None else hi))].ravel()[0]
        hint = f" ({info.doc})" if info.doc else ""
        raise ValueError(f"{where} = {bad:g} is outside its bounds {_interval(info)}{hint}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray | np.generic | float | int) and not isinstance(value, bool)


def require_single(model: Any) -> None:
    """Raise ValueError if a model is a batch: its methods are those of one galaxy."""
    for name, (info, x) in named_parameters(model).items():
        if _is_batched(info, x):
            raise ValueError(
                f"{type(model).__name__} is a batch ({name} has shape {np.shape(x)}), where one model is meant. Evaluate a "
                f"batch with eqx.filter_vmap(function, in_axes=(dspsx.batch_axes(batch),))(batch)."
            )


def warn(message: str) -> None:
    """Warn at the line of the caller's own code, outside dspsx and the libraries that build its objects."""
    ours = ("dspsx", "equinox", "jaxtyping", "beartype", "jax")
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ours:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def _child(node: Any, key: Any) -> Any:
    if isinstance(key, jax.tree_util.GetAttrKey):
        return getattr(node, key.name)
    if isinstance(key, jax.tree_util.SequenceKey):
        return node[key.idx]
    if isinstance(key, jax.tree_util.DictKey):
        return node[key.key]
    return None


def _info_at(model: Any, path: Sequence[Any]) -> Parameter | str:
    node = model
    for key in path:
        if isinstance(node, AbstractModel) and isinstance(key, jax.tree_util.GetAttrKey):
            info = _field_info(type(node)).get(key.name)
            if info is not None:
                return info
        node = _child(node, key)
    return FOREIGN


def infos(model: M) -> M:
    """A tree like `model` whose leaves say what each leaf is: a `Parameter`, or `"data"`."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(model)
    kinds = [_info_at(model, path) for path, _ in leaves]
    kinds = [DATA if k is FOREIGN and not _is_inexact(leaf) else k for k, (_, leaf) in zip(kinds, leaves, strict=True)]
    return jax.tree_util.tree_unflatten(treedef, kinds)


def _is_inexact(leaf: Any) -> bool:
    """Whether a leaf is an array of floats, or the shape of one."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def named_parameters(model: Any) -> dict[str, tuple[Parameter, Any]]:
    """Every parameter of a model by its dotted path: `{"dust.av": (info, value), ...}`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(model)
    kinds = jax.tree.leaves(infos(model))
    named = {}
    for (path, leaf), info in zip(leaves, kinds, strict=True):
        if isinstance(info, Parameter):
            named[jax.tree_util.keystr(path, simple=True, separator=".")] = (info, leaf)
    return named


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
            _check_value(f"{type(model).__name__}.{name}", info, value)
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
    """The model again, from the two halves that `partition` made; differentiable in both."""
    full = eqx.combine(theta, rest)
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
    models = list(models)
    if not models:
        raise ValueError("stack needs at least one model.")
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
    is_batch = any(_is_batched(info, x) for info, x in zip(jax.tree.leaves(kinds), jax.tree.leaves(model), strict=True))

    def axis(info, x):
        return 0 if isinstance(info, Parameter) and (info is FOREIGN or not is_batch or _is_batched(info, x)) else None

    axes = jax.tree.map(axis, kinds, model)
    if shared is None:
        return axes
    return eqx.tree_at(shared, axes, replace_fn=lambda node: jax.tree.map(lambda _: None, node), is_leaf=_is_none)


def _is_batched(info: Parameter | str, x: Any) -> bool:
    return isinstance(info, Parameter) and info is not FOREIGN and np.ndim(x) > info.ndim


def _is_none(x: Any) -> bool:
    return x is None


def take(batch: M, index: Any, shared: Callable[[Any], Any] | None = None) -> M:
    """The galaxy (an integer) or the smaller batch (a slice, an array) at `index` of a batch.

    `shared` names foreign modules (a network) that the whole batch has in common, as in `batch_axes`.
    """
    lengths = {np.shape(x)[0] for info, x in named_parameters(batch).values() if _is_batched(info, x)}
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
    of the one that it replaces. Raises ValueError for another shape, NaN, or a value out of bounds.
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
            owner = functools.reduce(_child, place[0][:-1], model)
            raise ValueError(
                f"replace: {type(owner).__name__}.{place[0][-1].name} is data, of which no single array can change; build the "
                "grid or table anew and replace it whole."
            )
    new = [_like(node, v) for node, v in zip(nodes, values, strict=True)]
    model = eqx.tree_at(where, model, new if many else new[0])
    for name, (info, x) in named_parameters(model).items():
        if is_concrete(x):
            _check_value(f"{type(model).__name__}.{name}", info, x)
    if not any(_is_batched(info, x) for info, x in named_parameters(model).values()):
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
    array = jnp.asarray(new, dtype=old.dtype)
    if array.shape != old.shape:
        raise ValueError(f"replace: the value has shape {array.shape}, but the parameter has shape {old.shape}.")
    return array


def summary(model: Any, file=None) -> None:
    """Print a table of a model's parameters: name, value, unit, bounds, free or fixed."""
    rows = [("parameter", "value", "unit", "bounds", "")]
    for name, (info, value) in named_parameters(model).items():
        bounds = _interval(dataclasses.replace(info, unit=""))
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
