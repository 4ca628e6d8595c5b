"""Many galaxies: a batch of any length is evaluated in chunks of one size, by one compiled program, in bounded memory."""

import contextlib
import difflib
import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

from dspsx import _chunks
from dspsx._files import write_hdf5
from dspsx._model import FOREIGN, AbstractModel, interval, is_batched, is_concrete, leaf_infos, parameters_of
from dspsx._operations import batch_axes, partition
from dspsx.compressed.bands import BandSSP, BandTable
from dspsx.filters import FilterSet
from dspsx.ssp.contraction import LARGE
from dspsx.ssp.grid import SSPGrid

_BANDED = ("magnitudes", "fluxes", "rest_magnitudes")


def predict(
    batch: Any,
    what: Any = "magnitudes",
    *,
    batch_size: int | str = "auto",
    output: str | os.PathLike | None = None,
    progress: bool | None = None,
    shared: Callable[[Any], Any] | None = None,
) -> Any:
    """Evaluate every galaxy of a batch, in chunks of `batch_size` galaxies: the memory needed does not grow with the batch.

    **Arguments:** `batch`, a model whose parameters have a leading axis (`stack`, or a vmapped constructor), in JAX or NumPy;
    a parameter without it is common to all galaxies. `what`: the name of a method or property of the model, a callable of
    one galaxy that returns arrays, or a tuple or dict of these. `batch_size`: galaxies in a chunk. "auto" takes 512 on a CPU
    and 16384 on an accelerator, less by powers of 4 where that holds a smaller batch; this is halved, down to 64, while the
    largest array in the program takes more than 4 MB and an eighth of the largest that all share, such as the SSP grid, or than
    1/64 of the accelerator's memory. `output`: an HDF5 file to stream to. `progress`: a bar of tqdm, from the start if True, never
    if False, else after 2 s where tqdm is installed. `shared=lambda g: g.dust.net` names modules that are not dspsx's and that the
    batch has in common, as in `batch_axes`.

    **Returns** NumPy arrays (galaxy, ...) in the order of the batch, for each thing asked for; or the path of `output`, which
    then holds a dataset for each: by the name of the method, by its key in a dict, else `value` (in a tuple its position).
    The file appears when it is complete, in the place of an older one.

    There is one compilation for all chunks, the short last one included, and for every later batch of the same structure and
    `batch_size`, whatever its length ("auto" has another program for batches of no more chunks than threads). A method is compiled
    once; a lambda written in the call is a new function, and compiled, each time: define it once, outside. Data that it needs
    it may hold as fields of an `eqx.Module` with a `__call__`. On a CPU threads go through several chunks at a time, as many as
    there are cores, up to 8, and memory for; a callback to Python in a function of yours may then be called by several at once.

    Raises ValueError or TypeError for one galaxy, leading axes that disagree, a method that does not exist, names that clash,
    bands that a compressed galaxy was not made for, a redshift of any galaxy for which (or NaN), a `batch_size` that is not
    positive; FileNotFoundError for an output in no folder.
    """
    if isinstance(what, dict):
        questions = {str(key): question for key, question in what.items()}
        if len(questions) < len(what):
            raise ValueError(f"predict: each thing asked for needs a name of its own; got {list(what)}.")
        _distinct(questions, output is not None)
        pack = lambda out: {key: out[str(key)] for key in what}  # noqa: E731
    elif isinstance(what, tuple | list):
        keys = [question if isinstance(question, str) else str(i) for i, question in enumerate(what)]
        _distinct(keys, output is not None)
        questions, pack = dict(zip(keys, what, strict=True)), lambda out: tuple(out[key] for key in keys)
    else:
        key = what if isinstance(what, str) else "value"
        questions, pack = {key: what}, lambda out: out[key]
    out = _evaluate("predict", _answers, batch, questions, None, batch_size, output, progress, shared)
    return pack(out) if output is None else out


def _distinct(keys: Iterable[str], stored: bool) -> None:
    """Raise ValueError for two things of one name; in a file, for a dataset that would be a folder of another, too."""
    paths = {key: [part for part in key.split("/") if part] if stored else [key] for key in keys}
    for (a, short), (b, long) in itertools.permutations(paths.items(), 2):
        if long[: len(short)] == short:
            raise ValueError(f"predict: each thing asked for needs a name of its own; got {a!r} and {b!r}.")
    if stored and not all(paths.values()):
        raise ValueError("predict: a dataset needs a name; got an empty one.")


def predict_and_gradient(
    batch: Any,
    function: Any,
    *,
    where: Callable[[Any], Any] | None = None,
    batch_size: int | str = "auto",
    output: str | os.PathLike | None = None,
    progress: bool | None = None,
    shared: Callable[[Any], Any] | None = None,
) -> Any:
    """A number for every galaxy, and its gradient with respect to the galaxy's parameters in physical units.

    **Arguments:** `function`, a callable of one galaxy that returns one number (or the name of such a method); `where`, the
    parameters, as in `partition` (none: every free one); the others as in `predict`.

    **Returns** values (galaxy,) and a model with the gradient, of shape (galaxy, *parameter), at each chosen parameter and
    None elsewhere, like the first half of `partition`. A chosen parameter that the batch shares has a gradient for each
    galaxy too, as if each had its own; sum over the first axis for that of the sum. (Leave a shared network out by `where`
    unless you want that.) With `output` the path, of datasets `value` and `gradient/dust.av` and so on.

    Raises what `predict` does, ValueError if the function's value is no single number, TypeError if `where` chose data.
    """
    out = _evaluate(
        "predict_and_gradient", _gradient, batch, {"value": function}, where, batch_size, output, progress, shared
    )
    return (out["value"], out["gradient"]) if output is None else out


def predict_jacobian(
    batch: Any,
    what: Any = "magnitudes",
    *,
    where: Callable[[Any], Any] | None = None,
    batch_size: int | str = "auto",
    output: str | os.PathLike | None = None,
    progress: bool | None = None,
    shared: Callable[[Any], Any] | None = None,
) -> Any:
    """An array for every galaxy, and its derivatives with respect to the galaxy's parameters in physical units.

    **Arguments:** `what`, the name of a method, or a callable of one galaxy, that returns one array; `where`, the parameters,
    as in `partition` (none: every free one); the others as in `predict`.

    **Returns** values (galaxy, *value) and a model with the derivatives (galaxy, *value, *parameter) at each chosen
    parameter, shared ones included, and None elsewhere. With `output` the path, of datasets `value` and `jacobian/dust.av`
    and so on. Forward mode if there are fewer parameters than values and the model allows it, else reverse mode.

    Raises what `predict` does, TypeError if the value is not one array or `where` chose data.
    """
    out = _evaluate("predict_jacobian", _jacobian, batch, {"value": what}, where, batch_size, output, progress, shared)
    return (out["value"], out["jacobian"]) if output is None else out


# What is done with one galaxy: traced under vmap and jit, from the model, the questions and which leaves were chosen.


def _ask(question: Any, model: Any) -> Any:
    if not isinstance(question, str):
        return question(model)
    answer = getattr(model, question)
    return answer() if callable(answer) else answer


def _answers(model: Any, questions: dict[str, Any], chosen: tuple[bool, ...]) -> dict[str, Any]:
    return {key: _ask(question, model) for key, question in questions.items()}


def _split(model: Any, question: Any, chosen: tuple[bool, ...]) -> tuple[Callable[[Any], Any], Any]:
    """The question as a function of the chosen parameters, and these."""
    theta, rest = eqx.partition(model, jax.tree.unflatten(jax.tree.structure(model), chosen))
    return lambda theta: _ask(question, eqx.combine(theta, rest)), theta


def _gradient(model: Any, questions: dict[str, Any], chosen: tuple[bool, ...]) -> dict[str, Any]:
    function, theta = _split(model, questions["value"], chosen)

    def number(theta):
        value = function(theta)
        if not eqx.is_array(value) or value.shape:
            got = f"an array of shape {value.shape}" if eqx.is_array(value) else f"a {type(value).__name__}"
            raise ValueError(
                f"predict_and_gradient: the function must give one number for a galaxy; it gives {got}. For the derivatives of "
                "an array use predict_jacobian."
            )
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(
                f"predict_and_gradient: a whole number has no gradient; the function gives {value.dtype.name}."
            )
        return value

    value, gradient = jax.value_and_grad(number)(theta)
    return {"value": value, "gradient": gradient}


def _jacobian(model: Any, questions: dict[str, Any], chosen: tuple[bool, ...]) -> dict[str, Any]:
    function, theta = _split(model, questions["value"], chosen)
    like = jax.eval_shape(function, theta)
    if not isinstance(like, jax.ShapeDtypeStruct):
        raise TypeError(f"predict_jacobian: `what` must give one array for a galaxy; it gives a {type(like).__name__}.")
    if not jnp.issubdtype(like.dtype, jnp.floating):
        raise TypeError(f"predict_jacobian: whole numbers have no derivatives; `what` gives {like.dtype.name}.")
    twice = lambda theta: (function(theta),) * 2  # noqa: E731
    # measured: a parameter in forward mode costs what a value does in reverse, or up to 1.3 times that
    if sum(x.size for x in jax.tree.leaves(theta)) < like.size:
        with contextlib.suppress(TypeError):  # a `jax.custom_vjp` in the model has no forward mode
            jacobian, value = jax.jacfwd(twice, has_aux=True)(theta)
            return {"value": value, "jacobian": jacobian}
    jacobian, value = jax.jacrev(twice, has_aux=True)(theta)
    return {"value": value, "jacobian": jacobian}


def _evaluate(caller, task, batch, questions, where, batch_size, output, progress, shared) -> Any:
    """Run a task on every galaxy, and gather what it gives: a dict of trees of arrays, or the path of a file."""
    axes, n = _axes(caller, batch, shared)
    _check(caller, batch, questions, batch_size, output)
    leaves, treedef = jax.tree.flatten((batch, questions))
    axes += [None] * (len(leaves) - len(axes))
    roles = tuple(
        "batched" if axis == 0 else "common" if eqx.is_array(x) else "static"
        for axis, x in zip(axes, leaves, strict=True)
    )
    of = lambda role: [x for x, r in zip(leaves, roles, strict=True) if r == role]  # noqa: E731
    batched = [np.asarray(x) for x in of("batched")]  # views, on a CPU: to slice JAX arrays costs ten times as much
    common = [x if isinstance(x, jax.Array) else jax.device_put(x) for x in of("common")]
    chosen = () if task is _answers else _chosen(caller, batch, where)
    program, one_chunk, plans = _chunks.program(task, treedef, roles, tuple(of("static")), chosen)
    size, n_chunks, workers, shapes = _chunks.plan(program, one_chunk, plans, batched, common, batch_size)
    run = lambda *args: _chunks.go_through(program, common, size, n_chunks, workers, *args)  # noqa: E731
    order = _order(batch, n)
    empty = lambda n: [np.empty((n, *x.shape[1:]), x.dtype) for x in jax.tree.leaves(shapes)]  # noqa: E731

    with _bar(caller, n, progress) as tell:
        if output is None:
            results = empty(n)
            run(batched, order, results, tell)
            return jax.tree.unflatten(jax.tree.structure(shapes), results)
        with write_hdf5(output) as file:
            file.attrs.update(dspsx=sys.modules["dspsx"].__version__, n_galaxies=n)
            if any(isinstance(q, str) and q in _BANDED for q in questions.values()) and hasattr(batch, "filters"):
                file.attrs["bands"] = list(batch.filters.names)
            # blocks of whole chunks: a dataset is written in long stretches, in its order whatever that of the chunks
            width = sum(x.nbytes for x in empty(1))
            block = size * n_chunks * max(1, _chunks.BUFFER // max(1, size * n_chunks * width))
            datasets = [
                file.create_dataset(_dataset(path), (n, *x.shape[1:]), x.dtype)
                for path, x in tree_leaves_with_path(shapes)
            ]
            for first in range(0, n, block):
                here = slice(first, min(first + block, n))
                within = None if order is None else order[(order >= here.start) & (order < here.stop)] - first
                results = empty(here.stop - first)
                run([x[here] for x in batched], within, results, tell)
                for dataset, x in zip(datasets, results, strict=True):
                    dataset[here] = x
    return pathlib.Path(output)


def _order(batch: Any, n: int) -> np.ndarray | None:
    """A permutation of the galaxies, in which to process them, if that is faster: neighbours in redshift share the rows of a
    BandTable, those in metallicity the spectra of a grid. Results come back in the order of the batch."""
    ssp, by = getattr(batch, "ssp", None), None
    if isinstance(ssp, BandTable):
        by = getattr(batch, "redshift", None)
    elif isinstance(ssp, SSPGrid) and ssp.flux.size >= LARGE:
        by = getattr(getattr(batch, "metallicity", None), "lgmet", None)
    return None if by is None or np.shape(by) != (n,) else np.argsort(np.asarray(by), kind="stable")


def _dataset(path: Any) -> str:
    """Name in a file: "magnitudes", "gradient/dust.av"."""
    return path[0].key + (f"/{keystr(path[1:], simple=True, separator='.')}" if path[1:] else "")


@contextlib.contextmanager
def _bar(caller: str, n: int, progress: bool | None) -> Iterator[Callable[[int], Any]]:
    try:
        from tqdm import tqdm
    except ImportError as error:
        if progress:
            raise ImportError(f"{caller}: progress=True needs tqdm: pip install 'dspsx[plot]'.") from error
        yield lambda count: None
        return
    delay = 0.0 if progress else 2.0
    with tqdm(total=n, desc=caller, unit=" galaxies", delay=delay, disable=progress is False) as bar:
        yield bar.update


def _axes(caller: str, batch: Any, shared: Callable | None) -> tuple[list[int | None], int]:
    """The axis of each leaf of a batch, 0 or None, and the number of galaxies; raises if it is no batch."""
    if not isinstance(batch, AbstractModel):
        raise TypeError(
            f"{caller}: expected a batch of galaxies, such as dspsx.stack gives; got a {type(batch).__name__}."
        )
    if not all(map(is_concrete, jax.tree.leaves(batch))):
        raise TypeError(
            f"{caller}: the batch is being traced (jit, grad or vmap); use eqx.filter_vmap there, with batch_axes."
        )
    kinds, leaves = leaf_infos(batch), jax.tree.leaves(batch)
    ours = [is_batched(info, x) for info, x in zip(kinds, leaves, strict=True)]
    if not any(ours):
        raise ValueError(
            f"{caller}: this {type(batch).__name__} is one galaxy, not a batch: call its methods, or join many by dspsx.stack."
        )
    # an array of a foreign module has any shape, ours have a known number of axes
    axes = [0 if own or info is FOREIGN else None for own, info in zip(ours, kinds, strict=True)]
    if shared is not None:
        axes = jax.tree.structure(batch).flatten_up_to(batch_axes(batch, shared))
    odd = [
        (axis == 0 and not np.shape(x)) or (own and (axis is None or np.ndim(x) != info.ndim + 1))
        for axis, own, info, x in zip(axes, ours, kinds, leaves, strict=True)
    ]
    lengths = {np.shape(x)[:1] for axis, x in zip(axes, leaves, strict=True) if axis == 0}
    if any(odd) or len(lengths) > 1:
        chosen = odd if any(odd) else [axis == 0 for axis in axes]
        named = [(keystr(path, simple=True, separator="."), np.shape(x)) for path, x in tree_leaves_with_path(batch)]
        listed = ", ".join(f"{name} {shape}" for (name, shape), here in zip(named, chosen, strict=True) if here)
        raise ValueError(
            f"{caller}: the parameters of a batch must each have one leading axis, of one length, or none if they are shared; "
            f"got {listed}. Name a network that the whole batch shares, and nothing that it does not, in `shared=lambda g: ...`."
        )
    ((n,),) = lengths
    if n == 0:
        raise ValueError(f"{caller}: the batch holds no galaxies (its parameters have a leading axis of length 0).")
    return axes, n


def _check(caller: str, batch: Any, questions: dict, batch_size: Any, output: Any) -> None:
    number = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if batch_size <= 0 if number else batch_size != "auto":
        raise ValueError(f'{caller}: batch_size must be a positive integer or "auto"; got {batch_size!r}.')
    if output is not None and pathlib.Path(output).is_dir():
        raise IsADirectoryError(f"{caller}: output must be the name of a file; {str(output)!r} is a folder.")
    if isinstance(ssp := getattr(batch, "ssp", None), BandSSP | BandTable):
        if isinstance(filters := getattr(batch, "filters", None), FilterSet) and np.ndim(filters.wave) == 1:
            ssp.check_use(filters, batch.redshift)
        else:
            ssp.check_range(batch.redshift)
    cls = type(batch)
    if (info := parameters_of(cls).get("redshift")) is not None:
        lo, hi = (inf if bound is None else bound for bound, inf in zip(info.bounds, (-np.inf, np.inf), strict=True))
        z = np.atleast_1d(np.asarray(batch.redshift))
        odd = z[~((z >= lo) & (z <= hi))]  # NaN is odd, too
        if odd.size:
            raise ValueError(
                f"{caller}: redshift {odd[0]:g} is outside its bounds {interval(info)} ({odd.size} of {z.size} galaxies): leave "
                "these galaxies out."
            )
    for question in questions.values():
        if isinstance(question, str) and not _is_question(cls, question):
            if isinstance(getattr(batch, question, None), jax.Array | np.ndarray):
                raise ValueError(
                    f"{caller}: {question!r} is a field of {cls.__name__}, no method; read batch.{question}, or ask for "
                    f"lambda g: g.{question}."
                )
            known = [x for x in dir(cls) if _is_question(cls, x)]
            near = difflib.get_close_matches(question, known, n=4, cutoff=0.4) or known
            raise ValueError(f"{caller}: {cls.__name__} has no method {question!r}. Nearest: {', '.join(near)}.")
        if not isinstance(question, str) and not callable(question):
            raise TypeError(f"{caller}: expected the name of a method or a function of one galaxy; got {question!r}.")


def _is_question(cls: type, name: str) -> bool:
    """Whether a class has a method or property of this name."""
    found = None if name.startswith("_") else getattr(cls, name, None)
    return callable(found) or isinstance(found, property)


def _chosen(caller: str, batch: Any, where: Callable | None) -> tuple[bool, ...]:
    """Which leaves of the batch `where` chooses: looked at as shapes, so that no value is copied or checked."""
    try:
        theta = eqx.filter_eval_shape(lambda model: partition(model, where, physical=True)[0], batch)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{caller}: {str(error).removeprefix('partition: ')}") from error
    return tuple(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.structure(batch).flatten_up_to(theta))
