"""What a model is: parameters, data and static fields, and what each leaf of a model is.

A model is an immutable `equinox.Module`. Its fields are of three kinds: `param` (a number in physical units: traced,
batched, fitted if free), `data` (an array such as a spectral grid: traced, shared, never fitted) and
`equinox.field(static=True)` (a name or a switch). A field that holds another module is a component. Arrays of a
module that is not ours (an `eqx.nn.MLP`, say) count as free parameters without bounds.
"""

import contextlib
import dataclasses
import functools
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

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


def _oddity(x: Any) -> str:
    """What is odd about a value out of which JAX and NumPy would read numbers; empty for nothing."""
    is_text = any(isinstance(y, str | bytes) for y in (x if isinstance(x, list | tuple) else [x]))
    if is_text or getattr(getattr(x, "dtype", None), "kind", "") in ("S", "U"):
        return f"is text, {x!r:.40}, where a number belongs"
    unit = getattr(x, "unit", "")
    if hasattr(x, "to_value") and str(unit):
        return f"has a unit, {unit}, which would be lost: give the number alone"
    return "holds masked values, which would count" if np.ma.is_masked(x) else ""


def plain(what: str, x: Any, unit: str = "") -> Any:
    """x, if it is numbers alone; raises TypeError for text, for quantities with a unit and for masked values."""
    if oddity := _oddity(x):
        raise TypeError(f"{what} {oddity}{', in ' + unit if unit and 'unit' in oddity else ''}.")
    return x


def _as_float(x: Any) -> Any:
    """Strongly typed array of the default float dtype; what cannot be one is left for the check that names the field."""
    if _oddity(x):
        return x
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
    if isinstance(default, np.ndarray):
        kwargs = {"default_factory": lambda: default}
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
        for name, info in _field_info(type(self)).items():
            plain(f"{type(self).__name__}.{name}", getattr(self, name), getattr(info, "unit", ""))
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


def interval(info: Parameter) -> str:
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
        check_value(where, info, value)


def check_value(where: str, info: Parameter, value: Any) -> None:
    x = np.asarray(value)
    if np.isnan(x).any():
        raise ValueError(f"{where} is NaN; expected a value in {interval(info)}.")
    if np.isinf(x).any():
        raise ValueError(f"{where} = {x[np.isinf(x)].ravel()[0]} is not finite; expected a value in {interval(info)}.")
    lo, hi = info.bounds
    # a bound given as a Python float may round to just outside in float32
    slack = 1e-6 * max(abs(b) for b in (lo or 0.0, hi or 0.0, 1e-30))
    if (lo is not None and (x < lo - slack).any()) or (hi is not None and (x > hi + slack).any()):
        bad = x[(x < (-np.inf if lo is None else lo)) | (x > (np.inf if hi is None else hi))].ravel()[0]
        hint = f" ({info.doc})" if info.doc else ""
        raise ValueError(f"{where} = {bad:g} is outside its bounds {interval(info)}{hint}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray | np.generic | float | int) and not isinstance(value, bool)


def require_single(model: Any) -> None:
    """Raise ValueError if a model is a batch: its methods are those of one galaxy."""
    for name, (info, x) in named_parameters(model).items():
        if is_batched(info, x):
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


def child(node: Any, key: Any) -> Any:
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
        node = child(node, key)
    return FOREIGN


#: What the leaves are of structures that have been met: `predict` and every method ask again and again.
_met: dict[Any, list[Any]] = {}


def leaf_infos(model: Any) -> list[Any]:
    """What each leaf of a model is: a `Parameter`, or `"data"`."""
    leaves, structure = jax.tree.flatten(model)
    kinds = None
    # a static field of the user's may have no hash, or no equality that is true or false
    with contextlib.suppress(TypeError, ValueError):
        kinds = _met.get(structure)
    if kinds is None:
        kinds = [_info_at(model, path) for path, _ in jax.tree_util.tree_leaves_with_path(model)]
        with contextlib.suppress(TypeError, ValueError):
            if len(_met) >= 1024:
                _met.clear()
            _met[structure] = kinds
    return [DATA if k is FOREIGN and not is_inexact(leaf) else k for k, leaf in zip(kinds, leaves, strict=True)]


def infos(model: M) -> M:
    """A tree like `model` whose leaves say what each leaf is, as `leaf_infos` does."""
    return jax.tree.unflatten(jax.tree.structure(model), leaf_infos(model))


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf is an array of floats, or the shape of one."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def named_parameters(model: Any) -> dict[str, tuple[Parameter, Any]]:
    """Every parameter of a model by its dotted path: `{"dust.av": (info, value), ...}`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(model)
    named = {}
    for (path, leaf), info in zip(leaves, leaf_infos(model), strict=True):
        if isinstance(info, Parameter):
            named[jax.tree_util.keystr(path, simple=True, separator=".")] = (info, leaf)
    return named


def is_batched(info: Parameter | str, x: Any) -> bool:
    return isinstance(info, Parameter) and info is not FOREIGN and np.ndim(x) > info.ndim
