"""What must import where: GPU boxes have only the deep-learning packages, workers must not load torch."""

import subprocess
import sys

import pytest

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name + " is not there")
sys.meta_path.insert(0, Block())
import {modules}
"""

CLUSTER_AND_DATA = [
    "ray",
    "mlflow",
    "tyro",
    "webdataset",
    "av",
    "pyarrow",
    "pycocotools",
    "open_clip",
    "jinja2",
]


def _import(modules, blocked):
    code = BLOCK.format(blocked=set(blocked), modules=modules)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "modules",
    [
        "univs.model.univs, univs.model.weights, univs.training.steps, univs.training.objective",
        "univs.inference.vos, univs.inference.refvos",
        "univs.inference.vis, univs.inference.vps, univs.inference.vss, univs.inference.image",
    ],
)
def test_network_imports_without_cluster_and_data_packages(modules):
    done = _import(modules, CLUSTER_AND_DATA)
    assert done.returncode == 0, done.stderr


def test_preprocessing_imports_without_torch_and_cluster():
    modules = "preprocessing.miniature, preprocessing.index, preprocessing.sources.catalog"
    done = _import(modules, ["torch", "ray", "mlflow", "webdataset"])
    assert done.returncode == 0, done.stderr


def test_import_of_a_blocked_package_fails():
    assert _import("univs.data.masks", ["pycocotools"]).returncode != 0
