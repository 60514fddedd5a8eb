"""Packaging of swinv2_mm; exact versions are in requirements.lock, tools in pyproject.toml."""
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


def read_version():
    """The version as written in swinv2_mm/__init__.py, read as text: importing it needs torch."""
    text = (HERE / 'swinv2_mm' / '__init__.py').read_text(encoding='utf-8')
    found = re.search(r"""^__version__ = ['"]([^'"]+)['"]""", text, re.MULTILINE)
    if found is None:
        raise ValueError("swinv2_mm/__init__.py must hold a line __version__ = '...', and has "
                         'none: add it.')
    return found.group(1)


def read_readme():
    """The README as the long description; a source tree without one still installs."""
    readme = HERE / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.is_file() else ''


class BuildWithMim(build_py):
    """Puts configs, tools and their index into swinv2_mm/.mim, where mim and mmengine look.

    Only in what is built: the source tree stays as it is. An editable installation is a checkout.
    """

    # What works in a checkout only.
    LEFT_OUT = ('tools/demo.py', 'tools/setup_env.py')

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


# An existing OpenMMLab environment has either the upstream packages or the OneDL ones, built
# against its own torch; the two lines share import names and overwrite each other's files. So the
# package itself asks for torch alone, at any version, and leaves mmengine and mmcv as they are.
# Only the extras, meant for a fresh environment, name distributions: the OneDL line, as the
# upstream one stops at mmcv 2.1 and torch 2.1. onedl-mmcv is built against the torch in place:
#   pip install torch torchvision ninja psutil 'setuptools<81' wheel
#   pip install --no-build-isolation -e '.[det]'
BASE = ['onedl-mmengine>=0.10.12,<0.11', 'onedl-mmcv>=2.3.6,<2.4']
EXTRAS = {
    'det': BASE + ['onedl-mmdetection>=3.5.1,<3.6'],
    # mmdetection comes along for the losses and assigners of the mask-classification decoders
    'seg': BASE + ['onedl-mmsegmentation>=1.4.2,<1.5', 'onedl-mmdetection>=3.5.1,<3.6'],
    'cls': BASE + ['onedl-mmpretrain>=1.3.6,<1.4', 'torchvision'],
    'video': BASE + ['mmaction2>=1.2.0,<1.3', 'torchvision'],
    'web': ['gradio>=6.31,<7'],  # tools/web_demo.py
    'export': ['onnx', 'onnxscript', 'onnxruntime'],  # tools/export_onnx.py
    'docs': ['sphinx>=8.1,<10', 'myst-parser>=4,<6', 'furo'],
    'test': ['pytest>=8', 'pytest-timeout', 'pytest-xdist', 'hypothesis', 'ruff', 'timm',
             'safetensors', 'torchvision'],
}
EXTRAS['all'] = sorted({name for names in EXTRAS.values() for name in names})

setup(
    name='swinv2_mm',
    version=read_version(),
    description='Swin Transformer V2 for OpenMMLab: images and video, one implementation',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['swinv2_mm', 'swinv2_mm.*']),
    cmdclass={'build_py': BuildWithMim},
    python_requires='>=3.9',
    install_requires=['torch'],
    extras_require=EXTRAS,
    entry_points={'console_scripts': ['swinv2-mm = swinv2_mm.cli:main']},
    zip_safe=False,
)
