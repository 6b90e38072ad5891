"""Puts the workflow into the wheel, as ``spineseg/workflow``; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

WORKFLOW = ("Snakefile", "rules", "envs", "profiles", "config", "constraints.txt")
"""The files and folders of the workflow, which stay at the top level of a checkout."""


class BuildWithWorkflow(build_py):
    """Copy the workflow beside the modules; an editable install finds it in the checkout."""

    def run(self) -> None:
        """Build the package and copy the workflow."""
        if self.editable_mode:
            super().run()
            return
        package = Path(self.build_lib) / "spineseg"
        shutil.rmtree(package, ignore_errors=True)  # of an earlier build: it may hold modules that are gone
        super().run()
        target = package / "workflow"
        target.mkdir()
        for name in WORKFLOW:
            if Path(name).is_dir():
                shutil.copytree(name, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copy2(name, target)


setup(cmdclass={"build_py": BuildWithWorkflow})
