"""What pyproject.toml cannot say: a wheel carries notebooks, recipes, manifests and records in ``vidlib/shipped/``."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = ("data_manifests", "notebooks", "recipes", "records")


class BuildWithData(build_py):
    """The package, with copies of the folders that lie beside it; an editable install reads those themselves."""

    def run(self) -> None:
        package = Path(self.build_lib, "vidlib")
        if not self.editable_mode:
            shutil.rmtree(package, ignore_errors=True)  # of an earlier build: what was removed since would travel
        super().run()
        for name in () if self.editable_mode else SHIPPED:
            shutil.copytree(ROOT / name, package / "shipped" / name, ignore=shutil.ignore_patterns(".*", "__pycache__"))


setup(cmdclass={"build_py": BuildWithData})
