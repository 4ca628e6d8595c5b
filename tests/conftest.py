"""What every test shares: strict JAX, both precisions in one process, and the peers in a process of their own."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

#: Linux grants a process 65530 mappings of memory, a compiled program holds dozens, and LLVM crashes without.
_MOST_MAPPINGS = 25_000

#: Tests compile thousands of small programs and run each a few times: a quick compilation takes a third of the time. It
#: changes no result beyond rounding; JAX_DISABLE_MOST_OPTIMIZATIONS=0 has all of the compiler.
if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
    jax.config.update("jax_disable_most_optimizations", True)

#: What a quick compilation also goes without: a way to write loops, and a split into parts, that cost more than they save.
_QUICK = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}


def quick_options():
    """Have JAX compile with `_QUICK` where it disables most optimisations: XLA_FLAGS would hold for every test."""
    try:
        from jax._src import compiler

        options_of = compiler.get_compile_options
        jax.jit(lambda x: x, compiler_options=_QUICK).lower(0.0).compile()
    except (ImportError, AttributeError, jax.errors.JaxRuntimeError):  # JAX or XLA has changed: tests take longer
        return _QUICK.clear()

    def quick(*args, **kwargs):
        options = options_of(*args, **kwargs)
        if jax.config.read("jax_disable_most_optimizations"):
            options.env_option_overrides = [*options.env_option_overrides, *_QUICK.items()]
        return options

    compiler.get_compile_options = quick


def pytest_configure(config):
    """Compile quickly, and keep compiled programs in a folder of this worker's own, which goes with it: many tests compile
    the same ones, and `jax.clear_caches` loses none. (In a folder that workers share one may read what another has half
    written.)"""
    quick_options()
    try:
        folder = tempfile.mkdtemp(prefix="dspsx-tests-")
    except OSError:  # no room: it goes without
        return
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def few_programs():
    """Let go of the compiled programs before there are too many for one process."""
    yield
    if sys.platform == "linux":
        with open("/proc/self/maps", "rb") as mappings:
            many = sum(1 for _ in mappings) > _MOST_MAPPINGS
        if many:
            jax.clear_caches()


@pytest.fixture(scope="module")
def full_compilation():
    """Run a file of tests of rounding as users run dspsx: with all of the compiler."""
    quick = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") is None
    if quick:
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", False)
    yield
    if quick:
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def environment():
    """The environment of a process that compiles as quickly as the tests do."""
    if "JAX_DISABLE_MOST_OPTIMIZATIONS" in os.environ:
        return dict(os.environ)
    flags = [os.environ.get("XLA_FLAGS", ""), *(f"--{name}={int(value)}" for name, value in _QUICK.items())]
    return os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": " ".join(flags)}


@pytest.fixture
def x64():
    """Run a test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def precision(request):
    """Run a test twice, in float32 and in float64; gives the name of the dtype."""
    with jax.enable_x64(request.param):
        yield "float64" if request.param else "float32"


@pytest.fixture(params=["popstar", "bc03-miles"])
def grid(request):
    """The embedded SSP grid, and the one that users fetch, where they have."""
    import dspsx

    try:
        return dspsx.library(request.param)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def peer():
    """Call a function of `tests/parity/peers.py` where importing dsps, which switches x64 on, harms nobody.

    `peer(function, *args, **kwargs)`: numpy in, numpy out, computed in a spawned process.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        yield lambda function, *args, **kwargs: pool.submit(function, *args, **kwargs).result(timeout=300)


@pytest.fixture(scope="session")
def shared():
    """The folder of real catalogues and reference tables, which is not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared with real catalogues and reference tables")
    return SHARED
