"""Save a model to one HDF5 file, and load it again.

The file holds `structure`, a JSON text with the class, static fields and components of every module, and `arrays`, by
their paths in the model. It can only be read: loading imports nothing and runs no code of the file; classes are looked
up by name among those that the program has defined.
"""

import dataclasses
import datetime
import inspect
import json
import os
import sys
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path, tree_map_with_path

from dspsx._files import open_hdf5, write_hdf5
from dspsx._model import AbstractModel, is_concrete, is_inexact, parameters_of
from dspsx.filters import FilterSet
from dspsx.ssp import SSPGrid

_FORMAT, _VERSION = "dspsx-model", 1
#: Arrays that a class must have, besides its parameters, for it to be a whole model (not a half of `partition`).
_NEEDED = {SSPGrid: ("wave", "lg_age", "lgmet", "flux"), FilterSet: ("wave", "transmission")}
#: What h5py, numpy and json raise for a file whose contents make no sense.
_DAMAGE = (KeyError, TypeError, AttributeError, IndexError, RuntimeError, UnicodeError, json.JSONDecodeError)


def save(path: str | os.PathLike, model: AbstractModel) -> None:
    """Write a model, or a stacked batch of them, to an HDF5 file: all or nothing; an existing file is replaced.

    An SSP grid is not written, only its provenance, shape and digest; filter curves are. Of a module that is not ours
    (an `eqx.nn.MLP`) the arrays of floats are written, and `load` needs `like=` to rebuild the rest.
    Raises TypeError, before anything is written, naming the field that cannot be saved.
    """
    if not isinstance(model, AbstractModel):
        raise TypeError(f"save: expected a dspsx model, such as a GalaxySEDModel; got {type(model).__name__}.")
    if not all(is_concrete(leaf) for leaf in jax.tree.leaves(model)):
        raise TypeError("save: the model is being traced (jit, grad or vmap) and has no values yet; save it outside.")
    arrays: dict[str, np.ndarray] = {}
    structure = json.dumps(_describe(model, type(model).__name__, arrays), indent=1)
    with write_hdf5(path) as file:
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        versions = {name: sys.modules[name].__version__ for name in ("dspsx", "jax", "equinox", "numpy", "h5py")}
        file.attrs.update(format=_FORMAT, format_version=_VERSION, date=date, **versions)
        file["structure"] = structure
        group = file.create_group("arrays")
        for name, array in arrays.items():
            group[name] = array


def load(path: str | os.PathLike, ssp: SSPGrid | None = None, like: AbstractModel | None = None) -> Any:
    """Read a model that `save` wrote, as it was: nothing is computed anew, arrays of floats come in the default float
    dtype, and the default SSP grid is the very object `SSPGrid.default()`.

    **Arguments:** `ssp` the SSP grid, for a model on another than the default one (it must be the same, by its digest);
    `like` a model of the same structure, for one that holds modules which are not ours.

    A field that the file lacks takes the default of its class, with a warning. Raises FileNotFoundError, or ValueError
    saying what is wrong with the file, its classes and their fields, the SSP grid or `like`.
    """
    if ssp is not None and not isinstance(ssp, SSPGrid):
        raise TypeError(f"load: ssp must be an SSPGrid; got {type(ssp).__name__}.")
    what = f"load: {os.fspath(path)!r}"
    with open_hdf5(path, "load") as file:
        try:
            if str(file.attrs.get("format")) != _FORMAT:
                hint = " It looks like an SSP grid: SSPGrid.from_hdf5 reads those." if "ssp_flux" in file else ""
                raise ValueError(f"{what} is HDF5, but not a model that dspsx.save wrote.{hint}")
            version, writer = int(file.attrs["format_version"]), file.attrs["dspsx"]
            if version > _VERSION:
                raise ValueError(f"{what} was written by a newer dspsx ({writer}, format {version}): upgrade dspsx.")
            reader = _Reader(f"{what} (of dspsx {writer})", file["arrays"], ssp, [])
            node = json.loads(file["structure"].asstr()[()])
            model = reader.read(node, node.get("class", "SSPGrid"), like)
        except _DAMAGE as error:
            raise ValueError(f"{what} is damaged [{type(error).__name__}: {error}].") from error
    for note in reader.notes:
        warnings.warn(note, stacklevel=2)
    return model


def _describe(x: Any, where: str, arrays: dict[str, np.ndarray], static: bool = False) -> Any:
    """What JSON says of x, whose arrays are added to `arrays`: a tuple is a JSON array, what is not plain an object."""
    if x is None or type(x) in (str, int, float, bool):
        return x
    if type(x) in (tuple, list):
        items = [_describe(y, f"{where}[{i}]", arrays, static) for i, y in enumerate(x)]
        return items if type(x) is tuple else {"list": items}
    if static:
        allowed = "str, int, float, bool, None, and tuples or lists of them"
        raise TypeError(f"save: {where}, static, is a {type(x).__name__}; only {allowed} can be saved.")
    if type(x) is dict:
        keys = [_describe(key, f"a key of {where}", arrays, static=True) for key in x]
        return {"dict": keys, "values": [_describe(y, f"{where}[{key!r}]", arrays) for key, y in x.items()]}
    if isinstance(x, AbstractModel):
        return _describe_model(x, where, arrays)
    if is_inexact(x) or (isinstance(x, jax.Array | np.ndarray) and not jnp.issubdtype(x.dtype, jax.dtypes.extended)):
        # HDF5 does not know bfloat16 and its kin
        array = np.asarray(x, np.float32) if x.dtype.kind == "V" and is_inexact(x) else np.asarray(x)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"save: {where} is a {type(x).__name__} of {x.dtype}; only arrays of numbers can be saved.")
        arrays[where] = array
        return {"array": where, "numpy": isinstance(x, np.ndarray)}
    parts = {key: _describe(leaf, where + key, arrays) for key, leaf in _parts(x).items()}
    return {"foreign": type(x).__qualname__, "parts": parts}


def _describe_model(x: AbstractModel, where: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    for name in (*parameters_of(type(x)), *_NEEDED.get(type(x), ())):
        if not isinstance(getattr(x, name), jax.Array | np.ndarray):
            kind = type(getattr(x, name)).__name__
            raise TypeError(f"save: {where}.{name} is a {kind}, no array. Save a whole model: combine(theta, rest).")
    static = {f.name: f.metadata.get("static", False) for f in dataclasses.fields(x)}
    names = ["provenance"] if isinstance(x, SSPGrid) else static
    fields = {name: _describe(getattr(x, name), f"{where}.{name}", arrays, static[name]) for name in names}
    if isinstance(x, SSPGrid):
        return {"ssp": x.digest(), "shape": x.flux.shape} | fields
    digest = {"digest": x.digest()} if isinstance(x, FilterSet) else {}
    return {"class": type(x).__qualname__, "module": type(x).__module__, "fields": fields} | digest


def _parts(x: Any) -> dict[str, Any]:
    """What is saved of an object that is not ours: its arrays of floats, by path."""
    return {keystr(path): leaf for path, leaf in tree_leaves_with_path(x) if is_inexact(leaf)}


def _build(cls: type, values: dict[str, Any]) -> Any:
    """An instance as `tree_unflatten` makes it: no `__init__`, no converter, no check."""
    instance = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    return instance


def _subclasses(cls: type) -> list[type]:
    return [c for sub in cls.__subclasses__() for c in (sub, *_subclasses(sub))]


@dataclasses.dataclass
class _Reader:
    what: str
    arrays: Any
    ssp: SSPGrid | None
    notes: list[str]

    def read(self, node: Any, where: str, like: Any) -> Any:
        """What a node of the structure says. `like` is what the caller's model has in its place, or None."""
        if isinstance(node, list):
            likes = dict(enumerate(like)) if isinstance(like, tuple | list) else {}
            return tuple(self.read(y, f"{where}[{i}]", likes.get(i)) for i, y in enumerate(node))
        if not isinstance(node, dict):
            return node
        if "list" in node:
            return list(self.read(node["list"], where, like))
        if "dict" in node:
            pairs = zip(self.read(node["dict"], where, None), node["values"], strict=True)
            likes = like if isinstance(like, dict) else {}
            return {key: self.read(y, f"{where}[{key!r}]", likes.get(key)) for key, y in pairs}
        if "array" in node:
            array = np.asarray(self.arrays[node["array"]][()])
            kind = {"f": float, "c": complex}.get(array.dtype.kind)
            return array if node["numpy"] else jnp.asarray(array, dtype=kind)
        if "ssp" in node:
            return self.grid(node, where)
        return self.foreign(node, where, like) if "foreign" in node else self.model(node, where, like)

    def model(self, node: dict[str, Any], where: str, like: Any) -> Any:
        cls = self.find_class(node["module"], node["class"])
        if like is not None and type(like) is not cls:
            raise ValueError(f"{self.what}: {where} is a {cls.__name__}, but in like= a {type(like).__name__}.")
        stored, parameters = node["fields"], parameters_of(cls)
        fields = {f.name: f for f in dataclasses.fields(cls)}
        if unknown := ", ".join(stored.keys() - fields.keys()):
            raise ValueError(
                f"{self.what}: {where} has a field {unknown}, which {cls.__name__} does not have here. If another version of dspsx "
                "wrote the file, load it there, or make the model anew (a compressed galaxy: compress the full one again)."
            )
        values = {key: self.read(x, f"{where}.{key}", getattr(like, key, None)) for key, x in stored.items()}
        for key, x in values.items():
            static = fields[key].metadata.get("static", False)
            dynamic = isinstance(stored[key], dict) and "list" not in stored[key]
            if (static and dynamic) or (key in parameters and not eqx.is_inexact_array(x)):
                raise ValueError(f"{self.what}: {where}.{key} is another kind of field in {cls.__name__} here.")
        batch = [x.shape[: x.ndim - parameters[key].ndim] for key, x in values.items() if key in parameters]
        for key in [key for key in fields if key not in stored]:
            x = values[key] = self.default(fields[key], f"the field {key} of {where} ({cls.__name__})")
            if key in parameters:
                values[key] = jnp.broadcast_to(x, max(batch, key=len, default=()) + x.shape)
        if cls is FilterSet:  # by the arrays as they are in the file: in float32 points may merge
            curves = {key: self.arrays[stored[key]["array"]][()] for key in _NEEDED[FilterSet]}
            if (digest := _build(cls, values | curves).digest()) != node["digest"]:
                shas = f"SHA-256 {digest[:12]}, not {node['digest'][:12]}"
                raise ValueError(f"{self.what}: the filters at {where} are damaged or altered: {shas}.")
        return _build(cls, values)

    def default(self, field: dataclasses.Field, name: str) -> Any:
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{self.what} lacks {name}, which has no default.")
        self.notes.append(f"{self.what} lacks {name}: its default is used.")
        value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        return field.metadata.get("converter", lambda x: x)(value)

    def find_class(self, module: str, name: str) -> type:
        found = [c for c in _subclasses(AbstractModel) if c.__qualname__ == name and not inspect.isabstract(c)]
        modules = sorted({c.__module__ for c in found})
        if module not in modules and len(modules) != 1:
            others = f" There are classes of that name in {', '.join(modules)}: none is chosen." if modules else ""
            raise ValueError(
                f"{self.what}: holds the class {name!r} of the module {module!r}, no model class that is known here."
                f"{others} A file never imports anything: if you trust that module, import it before loading."
            )
        chosen = module if module in modules else modules[0]
        if chosen != module and not (chosen.startswith("dspsx.") and module.startswith("dspsx.")):
            self.notes.append(f"{self.what}: took {chosen}.{name} for the class {module}.{name}.")
        found = [c for c in found if c.__module__ == chosen]
        current = vars(sys.modules.get(chosen, sys)).get(name)  # a cell that is run twice defines two classes
        return next((c for c in found if c is current), found[-1])

    def grid(self, node: dict[str, Any], where: str) -> SSPGrid:
        given = self.ssp or SSPGrid.default()
        if (digest := given.digest()) == node["ssp"]:
            return given
        library = dict(node["provenance"]).get("library", "no library named")
        raise ValueError(
            f"{self.what}: {where} is an SSP grid of {library}, {' x '.join(map(str, node['shape']))}, SHA-256 "
            f"{node['ssp'][:12]}; no grid is stored, and the {'given' if self.ssp else 'default'} one differs: "
            f"{given.brief()}, SHA-256 {digest[:12]}. Read the model's own grid and load(path, ssp=grid)."
        )

    def foreign(self, node: dict[str, Any], where: str, like: Any) -> Any:
        if like is None:
            raise ValueError(
                f"{self.what}: {where} ({node['foreign']}) is not of dspsx, and the file holds only its arrays. Pass a "
                "model of the same structure, such as a newly made one: load(path, like=model)."
            )
        stored, wanted, new = node["parts"], _parts(like), {}
        if differ := ", ".join(sorted(stored.keys() ^ wanted.keys())):
            raise ValueError(f"{self.what}: {where} is built differently in like=: only one of them has {differ}.")
        for key, old in wanted.items():
            x = self.read(stored[key], where, None)
            if x.shape != old.shape:
                raise ValueError(f"{self.what}: {where}{key} has shape {x.shape}, in like= it has {old.shape}.")
            new[key] = x.astype(old.dtype)
        return tree_map_with_path(lambda path, x: new.get(keystr(path), x), like)
