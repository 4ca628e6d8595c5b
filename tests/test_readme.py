"""The README's Python runs as written, one block after the other, and prints what it shows."""

import contextlib
import io
import pathlib
import re

import jax
import numpy as np

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)
SHOWN = re.findall(r"```text\n(.*?)```", README, re.S)


def numbers(text):
    return [float(x) for x in re.findall(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?", text)]


def test_blocks_run_and_print_what_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope, printed = {}, []
    # a reader's JAX is not strict about dtypes and ranks
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in BLOCKS:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(block, scope)
            printed.append(out.getvalue())
    words = lambda text: re.sub(r"[-+\d.e\s\[\]]+", " ", text).split()  # noqa: E731
    assert words(printed[0]) == words(SHOWN[0])
    # the last digit may round differently on another processor
    np.testing.assert_allclose(numbers(printed[0]), numbers(SHOWN[0]), rtol=2e-3, atol=2e-3)
    assert not any(printed[1:])
    np.testing.assert_allclose(scope["best"].fluxes(), scope["observed"], rtol=0.01)
    assert scope["colours"].shape == (1000, 6)
    np.testing.assert_allclose(scope["again"].magnitudes(), scope["grey"].magnitudes(), rtol=1e-6)


def test_length_of_the_examples():
    assert len(BLOCKS[0].strip().splitlines()) <= 20
    assert "optax" in BLOCKS[1]


def test_the_two_commands_stand_on_lines_of_their_own():
    assert re.search(r"^ *pip install '\.\[all\]' && dspsx demo$", README, re.M)
    assert re.search(r"^ *pip install '\.\[test\]' && pytest$", README, re.M)
