"""Puts ``experiments/`` into the installed package; everything else stands in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithExperiments(build_py):
    """Copies configurations, results and published figures to ``hybridgen/_experiments``."""

    def run(self) -> None:
        """Build as ever; an editable install finds the folder where it is."""
        super().run()
        if self.editable_mode:
            return
        source, target = Path(__file__).parent / "experiments", Path(self.build_lib) / "hybridgen" / "_experiments"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)


setup(cmdclass={"build_py": WithExperiments})
