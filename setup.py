"""Everything is said in pyproject.toml, except that a wheel also holds the folder of configurations beside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies `configs/` to `ssl_nlp/configs/` in a wheel; an editable installation reads it where it is."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree("configs", Path(self.build_lib) / "ssl_nlp" / "configs", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigs})
