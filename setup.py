"""jobs/ travels with the package, so that `raysft init --task chat` finds its corpus where no checkout is."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = (
    *("quickstart", "quickstart.yaml", "tokens", "tokens.yaml", "chat", "chat.yaml"),
    *("chat_lora.yaml", "pretraining.yaml", "sweep.yaml"),
)


class WithJobs(build_py):
    """Builds the package with a copy of jobs/ in it; a checkout that is installed as it stands needs none."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "raysft" / "jobs"
            shutil.rmtree(target, ignore_errors=True)  # whatever an earlier build left
            for source in SHIPPED:
                copy = shutil.copytree if Path("jobs", source).is_dir() else shutil.copyfile
                target.mkdir(parents=True, exist_ok=True)
                copy(Path("jobs", source), target / source)


setup(cmdclass={"build_py": WithJobs})
