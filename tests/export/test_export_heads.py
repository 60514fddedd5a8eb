"""All heads that a config can name: exported and shown as their libraries predict, or refused."""
import head_walk
import pytest
from docs_blocks import page


@pytest.fixture(scope='module')
def found():
    return head_walk.verdicts(head_walk.walk())


@pytest.mark.slow
def test_every_head_of_the_libraries_is_tried(found):
    for library in head_walk.LIBRARIES:
        assert set(head_walk.registered(library)) - {'KernelUpdateHead'} == {
            head for name, head in found if name == library}


@pytest.mark.slow
def test_the_table_of_the_page_is_what_the_heads_do(found):
    _, _, rest = page('export').partition(head_walk.MARKS[0])
    assert rest.partition(head_walk.MARKS[1])[0] == head_walk.table(found)


def test_what_torch_cannot_write_is_refused_by_the_name_of_its_head(monkeypatch, tmp_path):
    model = head_walk.models.segmentor('FCNHead', head_walk.models.SOFTMAX, 3)
    pixels = head_walk.graphs.Pixels(model, 'whole')

    def fail(*args):
        raise TypeError('Conv of no constant groups')

    monkeypatch.setattr(head_walk.graphs, 'write', fail)
    monkeypatch.setattr(head_walk.graphs, 'trace', lambda *args: None)
    with pytest.raises(head_walk.UserError, match=r'heads\), FCNHead is not: torch cannot write it '
                       r'as .onnx \(Conv of no constant groups\); add --part backbone'):
        head_walk.graphs.export(pixels, (64, 64), tmp_path / 'a.onnx')
