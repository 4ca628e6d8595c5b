"""What the machine can do at least: a throw-away program of this work, not of the repository, its fluxes random.

It is looked for in ../shared/bench/floor.py or where the variable BENCHMARKS_FLOOR says, imported and timed as it stands.
"""

import importlib.util
import os
import pathlib

from benchmarks.problem import Problem
from benchmarks.timing import Skip, Timed, serve

PLACE = pathlib.Path(__file__).resolve().parents[3] / "shared" / "bench" / "floor.py"
#: Its parameters, by our names.
ORDER = (
    *("logm0", "logtc", "early_index", "late_index", "lgmcrit", "lgy_at_mcrit", "indx_lo", "indx_hi"),
    *("lg_qt", "qlglgdt", "lg_drop", "lg_rejuv", "lgmet", "scatter", "av", "slope"),
)


def _task(name: str):
    def task(problem: Problem, dtype: str, n: int, *, gradient: bool = False, chunk: int = 500) -> Timed:
        path = pathlib.Path(os.environ.get("BENCHMARKS_FLOOR", PLACE))
        if not path.is_file():
            raise Skip("needs ../shared/bench/floor.py, which is not part of the repository")
        if dtype != "float32":
            raise Skip("is written in float32")
        import jax
        import numpy as np

        spec = importlib.util.spec_from_file_location("floor", path)
        floor = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(floor)
        one = getattr(floor, name)
        n = max(n // chunk, 1) * chunk
        values = problem.galaxies(n, own_redshift=True) | {"slope": np.full(n, -0.7)}
        params = floor.f32(np.stack([values[name] for name in ORDER], axis=-1)).reshape(-1, chunk, len(ORDER))
        redshifts = floor.f32(values["redshift"]).reshape(-1, chunk)

        def all_of(params, redshifts, fun=one):
            return jax.lax.map(lambda chunk: fun(*chunk), (params, redshifts))

        run = jax.jit(all_of)
        if gradient:
            run = jax.jit(jax.grad(lambda p, z: all_of(p, z, jax.checkpoint(one)).sum(), argnums=(0, 1)))
        return Timed(lambda: run(params, redshifts))

    return task


if __name__ == "__main__":
    serve({name: _task(name) for name in ("fixed_z", "free_z", "weights_only")})
