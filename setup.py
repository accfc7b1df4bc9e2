"""jobs/ travels with the package, so that `raysft init --task chat` finds its corpus where no checkout is."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithJobs(build_py):
    """Builds the package with a copy of jobs/ in it; a checkout that is installed as it stands needs none."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree("jobs", Path(self.build_lib) / "raysft" / "jobs", dirs_exist_ok=True)


setup(cmdclass={"build_py": WithJobs})
