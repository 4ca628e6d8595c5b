"""Every notebook runs from its first cell to its last, in a kernel of this very interpreter."""

import json
import pathlib
import sys

import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
#: Bytes of a stored notebook, its figures included.
LARGEST = 900_000


def run_notebook(path, folder, environment):
    """Execute a notebook in `folder`, by a kernel that runs `sys.executable`, whatever others the machine has."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
    spec, work = folder / "kernels" / "python3", folder / "work"
    spec.mkdir(parents=True)
    work.mkdir()
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    specs = KernelSpecManager(kernel_dirs=[str(spec.parent)], ensure_native_kernel=False)
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, km=kernel, timeout=300, resources={"metadata": {"path": str(work)}})
    # a profile of its own: no configuration or history of the user's; figures inline, whatever the backend here
    env = {key: value for key, value in environment.items() if key != "MPLBACKEND"}
    client.execute(env=env | {"IPYTHONDIR": str(folder / "ipython")}, cleanup_kc=True)
    left = [p.name for p in work.iterdir()]
    assert not left, f"the notebook left files behind: {left}"


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.xdist_group("slow")
@by_name
def test_notebook_runs(path, tmp_path, environment):
    run_notebook(path, tmp_path, environment)


@by_name
def test_stored_notebook_was_run_in_order_and_without_noise(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    text = json.dumps([o.get("text", o.get("data", {}).get("text/plain")) for o in outputs])
    for folder in ("/home", "/tmp", "/root", "/work", "/Users", "/var"):
        assert f"{folder}/" not in text, "an output tells of the machine on which it was made"
    assert path.stat().st_size < LARGEST
