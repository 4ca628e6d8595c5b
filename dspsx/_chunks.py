"""Chunks of galaxies: programs that go through a batch in chunks of one size, and how large these may be."""

import collections
import concurrent.futures
import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

#: Galaxies in a chunk at most, and bytes of its largest array: between compressed grids (3 us a galaxy, where 0.2 ms to
#: dispatch a chunk must not count) and full ones (60 kB a galaxy, where chunks that stay near the caches are twice as fast). Or
#: the share of what galaxies have in common that this array may be: it takes many of them to be worth reading a large grid.
_CPU, _OF_COMMON = (512, 2**22), 1 / 8
_ACCELERATOR = 16384  # and a 64th of its memory: a program's temporaries are 4 to 13 times its largest array
_LEAST = 64
#: Chunks that a program goes through in one call on a CPU, and bytes of what they are given or give, at most; such calls at a
#: time, and bytes of the largest arrays of their chunks together (with a few times that in working memory).
_MOST_CHUNKS, _TOGETHER, _MOST_WORKERS, _LARGEST_AT_A_TIME = 16, 2**25, 8, 2**27
BUFFER = 2**26  # bytes of results that wait to be written to a file


@functools.lru_cache(maxsize=64)
def program(task: Callable, treedef: Any, roles: tuple[str, ...], static: tuple[Any, ...], chosen: tuple[bool, ...]):
    """The jitted program of a task, one for all batches of a structure; what it does with one chunk, to be looked at; and a
    dict for what `plan` finds out of that.

    Lists of leaves are cheaper to dispatch than models. A program that goes through many chunks is dispatched once, and its
    working memory is asked for once: new memory costs more than what is computed in it.
    """

    def one(batched, common):
        source = {"batched": iter(batched), "common": iter(common), "static": iter(static)}
        model, questions = jax.tree.unflatten(treedef, [next(source[role]) for role in roles])
        return task(model, questions, chosen)

    many = jax.jit(jax.vmap(one, in_axes=(0, None)))

    def run(batched, common, size, n_chunks):
        """Chunks of `size` galaxies, one after the other in the same memory, as many as are needed of those that there are."""
        chunk = lambda x, i: jax.lax.dynamic_slice_in_dim(x, i * size, size)  # noqa: E731
        like = jax.eval_shape(many, [x[:size] for x in batched], common)
        empty = jax.tree.map(lambda x: jnp.zeros((len(batched[0]), *x.shape[1:]), x.dtype), like)

        def step(i, results):
            found = many([chunk(x, i) for x in batched], common)
            place = lambda result, x: jax.lax.dynamic_update_slice_in_dim(result, x, i * size, 0)  # noqa: E731
            return jax.tree.map(place, results, found)

        return jax.lax.fori_loop(np.int32(0), n_chunks, step, empty)

    return jax.jit(run, static_argnums=2, compiler_options=_options()), many, {}


def _options() -> dict[str, Any]:
    """Of a CPU's vectors XLA uses at most half of the widest, for the sake of old ones that slowed down with these."""
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}


def go_through(
    program, common: list, size: int, n_chunks: int, workers: int, batched: list, order: Any, into: list, tell: Callable
) -> None:
    """Fill the arrays `into` with the results of all galaxies, some chunks at a time."""
    n, workers = len(batched[0]), 1 if any(_current(_DEBUGGING)) else workers
    # as many chunks in each call as there is room for, but calls enough for all threads to be done at one time
    chunks = -(-n // size)
    calls = workers * -(-chunks // (workers * n_chunks))
    several = size * -(-chunks // calls)

    def fill(start):
        count = min(several, n - start)
        rows = slice(start, start + count) if order is None else order[start : start + count]
        found = program(part(batched, rows, size * n_chunks), common, size, np.int32(-(-count // size)))
        for array, x in zip(into, jax.tree.leaves(found), strict=True):
            array[rows] = np.asarray(x)[:count]
        return count

    starts, counts = iter(range(0, n, several)), collections.deque()

    def fill_all():
        try:
            for start in starts:
                counts.append(fill(start))
                yield
        finally:
            collections.deque(starts, maxlen=0)  # if one thread fails, nothing is left for the others

    def tell_all():
        while counts:
            tell(counts.popleft())

    # this thread is one of them
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        others = [
            pool.submit(_as_here(lambda: collections.deque(fill_all(), maxlen=0)))
            for _ in range(min(-(-n // several), workers) - 1)
        ]
        for _ in fill_all():
            tell_all()
    for other in others:
        other.result()
    tell_all()


def _device(common: list) -> Any:
    return next(iter((common or [jnp.zeros(())])[0].devices()))


def _workers(device: Any, largest: int) -> int:
    """Threads that go through a batch side by side: within a chunk the cores of a CPU wait for each other, operation by
    operation; an accelerator works on a chunk while the results of another are gathered."""
    if device.platform != "cpu":
        return 2
    # the cores that this process may use, where the system says so
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _MOST_WORKERS, _LARGEST_AT_A_TIME // max(1, largest)))


#: Settings of JAX that change what is compiled, or what is told of it. Each thread has its own.
_SETTINGS = (
    "enable_x64",
    "default_matmul_precision",
    "default_device",
    "default_prng_impl",
    "threefry_partitionable",
    "numpy_rank_promotion",
    "numpy_dtype_promotion",
    "log_compiles",
)
#: Those that look at what is computed, which is then done where they are set.
_DEBUGGING = ("debug_nans", "debug_infs", "disable_jit")


def _current(names: tuple[str, ...]) -> list[Any]:
    return [getattr(jax.config, f"jax_{name}") for name in names]


def _as_here(function: Callable) -> Callable:
    """A function for other threads, with the settings of JAX as they are here."""
    here = _current(_SETTINGS)

    def run(*args):
        with contextlib.ExitStack() as stack:
            for name, value in zip(_SETTINGS, here, strict=True):
                stack.enter_context(getattr(jax, name)(value))
            return function(*args)

    return run


def part(batched: list, rows: Any, size: int) -> list:
    """Some rows of each array, and the last of them again up to `size`, so that all chunks have one shape."""
    parts = [x[rows] for x in batched]
    missing = size - len(parts[0])
    return [np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) for x in parts] if missing else parts


def plan(
    program: Any, one_chunk: Any, plans: dict, batched: list, common: list, batch_size: int | str
) -> tuple[int, int, int, Any]:
    """The number of galaxies in a chunk (see `predict`), of chunks in a call of the program, and of such calls at a time; and the
    shapes of what it gives for a chunk.

    Read off the traced program, which is compiled once, afterwards; and kept, since it takes as long as a thousand galaxies.
    """
    n = len(batched[0])
    size, budget = _limits(device := _device(common))
    if device.platform == "cpu":
        budget = max(budget, int(_OF_COMMON * max((x.nbytes for x in common), default=0)))
    while size > 16 and size // 4 >= n:
        size //= 4
    size = size if batch_size == "auto" else int(batch_size)
    trace = lambda size: one_chunk.trace(part(batched, slice(0, size), size), common)  # noqa: E731
    key = (batch_size, size, budget, _MOST_CHUNKS, BUFFER)
    key += (
        *map(str, _current(_SETTINGS)),
        *((x.shape[1:], x.dtype) for x in batched),
        *((x.shape, x.dtype) for x in common),
    )
    if key not in plans:
        largest = _largest(trace(size).jaxpr, size)
        while batch_size == "auto" and size > _LEAST and largest > budget:
            size, largest = size // 2, largest // 2
        shapes = trace(size).out_info
        n_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
        n_bytes = max(n_bytes, size * sum(x[:1].nbytes for x in batched))
        room = min(_TOGETHER, BUFFER) // max(1, n_bytes)
        n_chunks = max(1, min(_MOST_CHUNKS, room)) if device.platform == "cpu" else 1
        plans[key] = size, n_chunks, _workers(device, largest), shapes
    size, n_chunks, workers, shapes = plans[key]
    chunks = -(-n // size)
    if batch_size == "auto" and chunks <= workers:
        n_chunks = 1  # one for each thread
    if chunks > 1 and (key, n_chunks) not in plans:
        # compiled here, for no chunk, where the caller's settings and its log are, and not by one of the threads
        program(part(batched, slice(0, size * n_chunks), size * n_chunks), common, size, np.int32(0))
        plans[key, n_chunks] = True
    return size, n_chunks, workers, shapes


def _limits(device: Any) -> tuple[int, int]:
    """Galaxies in a chunk at most, and bytes of its largest array at most."""
    if device.platform == "cpu":
        return _CPU
    return _ACCELERATOR, (device.memory_stats() or {}).get("bytes_limit", 2**33) // 64


def _largest(jaxpr: Any, size: int) -> int:
    """Bytes of the largest array in a program among those with an axis of galaxies."""
    is_program = lambda x: hasattr(x, "eqns")  # noqa: E731
    found = [v.aval for eqn in jaxpr.eqns for v in eqn.outvars if size in getattr(v.aval, "shape", ())]
    inner = [x for eqn in jaxpr.eqns for x in jax.tree.leaves(eqn.params, is_leaf=is_program) if is_program(x)]
    return max([0, *(x.size * x.dtype.itemsize for x in found), *(_largest(x, size) for x in inner)])
