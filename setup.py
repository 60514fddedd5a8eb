"""The one step of packaging that pyproject.toml has no words for."""
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


class BuildWithMim(build_py):
    """Puts configs, tools and their index into swinv2_mm/.mim, where mim and mmengine look.

    Only in what is built: the source tree stays as it is. An editable installation is a checkout.
    """

    # What works in a checkout only.
    LEFT_OUT = ('tools/demo.py', 'tools/build_mmcv.py')

    def run(self):
        if not self.editable_mode:  # of an earlier build, with files that are gone by now
            shutil.rmtree(Path(self.build_lib, 'swinv2_mm', '.mim'), ignore_errors=True)
        super().run()
        for source, target in self.mim_files():
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))

    def mim_files(self):
        """(file, where it is built to) of all that goes into .mim."""
        if self.editable_mode:
            return []
        found = [HERE / 'model-index.yml']
        for pattern in ('configs/**/*.py', 'configs/**/*.yml', 'tools/**/*.py', 'tools/*.sh'):
            found += sorted(HERE.glob(pattern))
        names = [path.relative_to(HERE) for path in found]
        return [(HERE / name, Path(self.build_lib, 'swinv2_mm', '.mim', name)) for name in names
                if name.as_posix() not in self.LEFT_OUT]

    def get_outputs(self, include_bytecode=True):
        return super().get_outputs(include_bytecode) + [
            str(target) for _, target in self.mim_files()]


setup(cmdclass={'build_py': BuildWithMim})
