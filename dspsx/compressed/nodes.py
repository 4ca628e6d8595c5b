"""Nodes of a band: the few wavelengths from which everything that dust can do to the band's light follows."""

from typing import Any

import numpy as np

#: A band needs more nodes than this only if its tolerance is out of reach.
MOST_NODES = 120
#: More nodes than this may be owed to rounding in the quick decomposition: the exact one is tried as well.
_MANY_NODES = 25


def leading(x: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `most` leading singular vectors and values: x is about u * s @ v. By the eigenvectors of the smaller of the two
    matrices of products, which is quick, and knows values down to 1e-8 of the largest. A large matrix is narrowed first to
    the space that it maps random vectors to (Halko, Martinsson & Tropp 2011, SIAM Review 53, 217)."""
    if x.shape[0] < x.shape[1]:
        v, s, u = leading(x.T, most)
        return u.T, s, v.T
    if x.shape[1] > 6 * most:
        seen = x @ np.random.default_rng(0).normal(size=(x.shape[1], most + 16))
        for _ in range(2):
            seen = x @ (x.T @ np.linalg.qr(seen)[0])
        basis = np.linalg.qr(seen)[0]
        u, s, v = leading(basis.T @ x, most)
        return basis @ u, s, v
    power, vectors = np.linalg.eigh(x.T @ x)
    s = np.sqrt(np.maximum(power[::-1][:most], 1e-300))
    v = vectors[:, ::-1][:, :most].T
    return (x @ v.T) / s, s, v


def fit(
    projections: np.ndarray,
    light: np.ndarray,
    transmission: np.ndarray,
    n_fit: int,
    tol: float,
    dimmest: Any,
    guess: int = 1,
    most: int = MOST_NODES,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Choose nodes for one band: indices of wavelengths, and interpolating functions phi (wave, node).

    A transmission is written as :math:`T(\lambda) = \sum_n T(\lambda_n) \phi_n(\lambda)`. The functions span the leading
    singular vectors of example transmissions, each divided by the light that it lets through, and the nodes are where
    these vectors are told apart best (discrete empirical interpolation; Chaturantabut & Sorensen 2010, SIAM J. Sci. Comput.
    32, 2737). So a step or a bump of a law costs no nodes. The number of nodes is the least with which the mean in the band,
    for every projection, is within `tol` (relative) for examples that did not take part in the fit, sought from `guess`.

    **Arguments:** `projections` (redshift, wave), weights of the band's mean; `light` (example, wave) before dust;
    `transmission` (example, wave), of which the first `n_fit` are fitted and the rest, paired with the light, test;
    `dimmest`, the transmission of a whole band below which errors are relative to it, or one for each projection.
    Raises ValueError if `most` nodes do not reach the tolerance.
    """
    mean_light = (light / light.sum(1, keepdims=True)).mean(0)
    weight = projections.mean(0) * mean_light
    weight = weight / weight.sum()
    root = np.sqrt(np.maximum(weight, 1e-12 * weight.max()))
    known = transmission[:n_fit]
    examples = known * root / (known @ weight)[:, None]
    test = transmission[n_fit:]
    seen = light[: len(test)]
    projected = [seen * p for p in projections]
    dimmest = np.broadcast_to(dimmest, len(projections))
    exact = [((x * test).sum(1), x.sum(1) * least) for x, least in zip(projected, dimmest, strict=True)]

    def chosen(power: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray | None, np.ndarray, float]:
        enough = min(most, int((power > 1e-12 * power[0]).sum()))

        def tried(n: int) -> tuple[np.ndarray, np.ndarray, float]:
            modes = vectors[:n].T / root[:, None]
            nodes = interpolation_points(vectors[:n].T)
            phi = np.linalg.solve(modes[nodes].T, modes.T).T
            at_nodes = test[:, nodes]
            error = 0.0
            for x, (light_left, least) in zip(projected, exact, strict=True):
                lit = least > 0
                found = ((x[lit] @ phi) * at_nodes[lit]).sum(1)
                off = np.abs(found - light_left[lit]) / np.maximum(light_left[lit], least[lit])
                error = max(error, off.max(initial=0.0))
            return nodes, phi, error

        n = min(guess, enough)
        best = tried(n)
        if best[2] < tol:
            while n > 1 and (fewer := tried(n - 1))[2] < tol:
                n, best = n - 1, fewer
            return best
        worst = best[2]
        while n < enough:
            n += 1
            best = tried(n)
            worst = min(worst, best[2])
            if best[2] < tol:
                return best
        return None, np.zeros(0), worst

    nodes, phi, worst = chosen(*leading(examples, most)[1:])
    if nodes is None or len(nodes) > _MANY_NODES:
        again = chosen(*np.linalg.svd(examples, full_matrices=False)[1:])
        if nodes is None or (again[0] is not None and len(again[0]) < len(nodes)):
            nodes, phi, worst = again
    if nodes is None:
        raise ValueError(f"{worst * 1085.7:.2g} mmag with up to {most} nodes")
    return nodes, phi


def interpolation_points(modes: np.ndarray) -> np.ndarray:
    """Rows of modes (wave, mode) that make the best conditioned square matrix, chosen greedily (QR with pivots)."""
    rest = modes.copy()
    chosen = []
    for _ in range(modes.shape[1]):
        size = (rest**2).sum(1)
        i = int(np.argmax(size))
        chosen.append(i)
        direction = rest[i] / np.sqrt(size[i])
        rest = rest - np.outer(rest @ direction, direction)
    return np.array(chosen)
