"""Time dspsx beside DSPS in one run: `python -m benchmarks [--json FILE]`.

One galaxy at full resolution: a tabulated history, one metallicity distribution, the default grid (6 x 106 x 1229) and six
LSST magnitudes at z = 0.5, and the gradient of their sum; in float32 and in float64. DSPS is used as its documentation
uses it: `calc_rest_sed_sfh_table_lognormal_mdf`, then `calc_obs_mag` for each band; both codes under one `jax.jit`.
Both are timed in turns, compilation apart, in processes of their own per precision; the table gives medians of repeats.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time

REPEATS, CALLS = 15, 10


def stopwatch(functions: dict) -> dict[str, dict[str, float]]:
    """Compile each function, then time all of them in turns, so that a change of the machine's pace hits each alike."""
    import jax
    import numpy as np

    results = {}
    for name, call in functions.items():
        start = time.perf_counter()
        jax.block_until_ready(call())
        results[name] = {"compile_s": time.perf_counter() - start, "times": []}
    for _ in range(REPEATS):
        for name, call in functions.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                jax.block_until_ready(call())
            results[name]["times"].append((time.perf_counter() - start) / CALLS * 1e3)
    for row in results.values():
        times = row.pop("times")
        row.update(median_ms=float(np.median(times)), min_ms=float(np.min(times)), max_ms=float(np.max(times)))
    return results


def one_sed(dtype: str) -> dict:
    """The rows of one precision; runs in its own process, since importing dsps switches float64 on."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", dtype == "float64")
    import dspsx

    t = np.linspace(0.1, 13.8, 100)
    table = 5 * t * np.exp(-t / 3)
    filters = dspsx.FilterSet.load("lsst_*")
    common = {
        "metallicity": dspsx.LognormalMDF(lgmet=-2.0, scatter=0.2),
        "filters": filters,
        "cosmology": dspsx.Cosmology(Tcmb0=0.0),  # DSPS has no radiation
        "redshift": 0.5,
    }
    tabulated = dspsx.GalaxySEDModel(sfh=dspsx.TabulatedSFH(t, table), **common)
    compatible = dspsx.GalaxySEDModel(sfh=dspsx.TabulatedSFH(t, table, scheme="dsps"), **common)
    halo = dspsx.GalaxySEDModel(sfh=dspsx.DiffstarSFH(), dust=dspsx.Salim18(), **common)

    forward = jax.jit(lambda g: (g.rest_sed(), g.magnitudes()))

    @jax.jit
    def gradient(theta, rest):
        return jax.value_and_grad(lambda th: dspsx.combine(th, rest).magnitudes().sum())(theta)

    chosen = lambda g: (g.sfh.sfr_table, g.metallicity.lgmet, g.metallicity.scatter)  # noqa: E731
    split = {"table": dspsx.partition(tabulated, chosen), "dsps scheme": dspsx.partition(compatible, chosen)}
    calls = {
        "dspsx, table": lambda: forward(tabulated),
        "dspsx, table, gradient": lambda: gradient(*split["table"]),
        "dspsx, table, DSPS's weights": lambda: forward(compatible),
        "dspsx, table, DSPS's weights, gradient": lambda: gradient(*split["dsps scheme"]),
        "dspsx, diffmah + diffstar + dust": lambda: forward(halo),
        "dspsx, diffmah + diffstar + dust, gradient": lambda: gradient(*halo_split),
    }
    halo_split = dspsx.partition(halo)
    t_obs = float(compatible.t_obs)
    ssp, curves = tabulated.ssp, filters.curves()

    import dsps
    from dsps.cosmology import DEFAULT_COSMOLOGY

    jax.config.update("jax_enable_x64", dtype == "float64")  # dsps has just switched it on
    arrays = [jnp.asarray(np.asarray(x), dtype) for x in (ssp.lgmet, ssp.lg_age, ssp.flux, ssp.wave)]
    bands = [(jnp.asarray(w, dtype), jnp.asarray(c, dtype)) for w, c in curves]
    inputs = [jnp.asarray(x, dtype) for x in (t, table, -2.0, 0.2)]
    t_dsps = jnp.asarray(t_obs, dtype)

    def peer(params, arrays, bands):
        lgmet, lg_age, flux, wave = arrays
        t_table, sfr, met, scatter = params
        sed = dsps.calc_rest_sed_sfh_table_lognormal_mdf(
            t_table, sfr, met, scatter, lgmet, lg_age, flux, t_dsps
        ).rest_sed
        mags = [dsps.calc_obs_mag(wave, sed, w, c, 0.5, *DEFAULT_COSMOLOGY) for w, c in bands]
        return sed, jnp.stack(mags)

    peer_forward = jax.jit(peer)
    peer_gradient = jax.jit(jax.value_and_grad(lambda p, a, b: peer(p, a, b)[1].sum()))
    calls["DSPS 0.4.8, table"] = lambda: peer_forward(inputs, arrays, bands)
    calls["DSPS 0.4.8, table, gradient"] = lambda: peer_gradient(inputs, arrays, bands)
    rows = stopwatch(calls)
    ours = {name: np.asarray(forward(g)[1]) for name, g in (("default", tabulated), ("dsps", compatible))}
    theirs = np.asarray(peer_forward(inputs, arrays, bands)[1])
    agreement = {name: float(np.abs(m - theirs).max()) * 1e3 for name, m in ours.items()}
    return {"dtype": dtype, "rows": rows, "mmag_from_dsps": agreement}


def machine() -> dict:
    """Where and with what the run was made."""
    import jax

    packages = ("jax", "jaxlib", "equinox", "numpy", "dsps")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "versions": {p: importlib.metadata.version(p) for p in packages},
    }


def show(result: dict) -> None:
    """One precision's rows as a table, with ratios to DSPS."""
    rows, dtype = result["rows"], result["dtype"]
    print(f"\n{dtype}{'':36}  median ms   min ms   compile s   DSPS / this   gradient / forward")
    for name, row in rows.items():
        kind = ", gradient" if name.endswith("gradient") else ""
        ratio = rows["DSPS 0.4.8, table" + kind]["median_ms"] / row["median_ms"]
        over = f"{row['median_ms'] / rows[name.removesuffix(kind)]['median_ms']:18.2f}" if kind else ""
        print(f"{name:44}{row['median_ms']:9.3f}{row['min_ms']:9.3f}{row['compile_s']:12.2f}{ratio:14.1f}   {over}")
    print(
        "largest difference of a magnitude from DSPS, mmag:",
        {k: round(v, 2) for k, v in result["mmag_from_dsps"].items()},
    )


def main() -> None:
    """Run both precisions, each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the results to this file too")
    parser.add_argument("--quick", action="store_true", help="few repeats: to see that it runs, not to quote")
    parser.add_argument("--dtype", choices=("float32", "float64"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        global REPEATS, CALLS
        REPEATS, CALLS = 2, 1
    if options.dtype:
        print(json.dumps(one_sed(options.dtype)))
        return
    results = []
    for dtype in ("float32", "float64"):
        command = [sys.executable, "-m", "benchmarks", "--dtype", dtype, *(["--quick"] if options.quick else [])]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        results.append(json.loads(output.splitlines()[-1]))
        show(results[-1])
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": machine(), "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
