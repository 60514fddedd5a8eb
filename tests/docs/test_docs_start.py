"""docs/start.md: what a newcomer types works as it stands there, one command after the other."""
import pytest
from docs_blocks import block, commands, page, tables
from helpers import ROOT, checked, run_tool

# Less of everything: that it runs is shown by a few pictures and two steps.
LESS = {'tools/dataset/make_shapes.py': ['--train', '6', '--val', '2', '--size', '96', '128']}


@pytest.mark.slow
def test_the_first_five_minutes(tmp_path):
    """In a folder that has configs and tools, as a clone has, and nothing else."""
    pytest.importorskip('onnxruntime')
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    text = block('start', 'first').replace('=40', '=2').replace('iter_40', 'iter_2')
    text = text.replace('192 256', '64 96')
    lines = commands(f'```bash\n{text}```\n')
    assert [words[1] for words in lines] == [
        'tools/dataset/make_shapes.py', 'tools/train.py', 'tools/test.py', 'tools/infer.py',
        'tools/export_onnx.py']
    for _, script, *words in lines:
        checked(run_tool(script, *words, *LESS.get(script, []), cwd=tmp_path))
    for _, where in tables('start', 'what')[0]:
        found = list(tmp_path.glob(where.strip('`').rstrip('/')))
        assert found, where
        assert all(path.stat().st_size if path.is_file() else [*path.iterdir()] for path in found)
    assert (tmp_path / 'work_dirs/first/iter_2.pth').is_file()
    assert len(list((tmp_path / 'found').glob('*.json'))) == 2


def test_the_first_page_names_every_worked_example_and_every_demo():
    text = page('start')
    for task in ('detection', 'segmentation', 'classification', 'video', 'pretraining'):
        assert f'({task}.md)' in text
    makefile = (ROOT / 'Makefile').read_text()
    for task in ('seg', 'cls', 'video', 'mim'):
        assert f'`{task}`' in text or f'TASK={task}`' in text
        assert task in makefile
