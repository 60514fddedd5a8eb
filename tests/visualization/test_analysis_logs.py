"""tools/analysis/plot_log.py: what counted of each run, and a picture of it."""
import json

import cv2
import pytest

from swinv2_mm.visualization import plot_log


def write(folder, *files):
    """A work dir whose runs logged these rows; returns it."""
    for number, rows in enumerate(files):
        place = folder / f'20260101_00000{number}' / 'vis_data'
        place.mkdir(parents=True)
        (place / 'scalars.json').write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
    return folder


def step(number, loss, lr=0.1):
    return dict(step=number, loss=loss, lr=lr)


@pytest.fixture
def run(tmp_path):
    return write(tmp_path / 'first', [
        step(10, 5.0), step(20, 4.0), {'coco/bbox_mAP': 0.1, 'coco/bbox_mAP_s': 0.2, 'step': 1},
        step(30, 3.0), step(40, 2.5), {'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_s': 0.4, 'step': 2}])


def test_metrics_stand_at_the_iteration_they_were_measured_at(run):
    rows = plot_log.scalars(run)
    assert plot_log.series(rows, 'coco/bbox_mAP') == [(20, 0.1), (40, 0.3)]
    assert plot_log.metrics_of(rows) == ['coco/bbox_mAP', 'coco/bbox_mAP_s']


def test_of_a_resumed_run_what_was_done_twice_counts_once(tmp_path):
    run = write(tmp_path, [step(10, 5.0), step(20, 4.0), step(30, 9.0), dict(mIoU=1.0, step=3)],
                [step(30, 3.0), step(40, 2.0), dict(mIoU=2.0, step=4)])
    rows = plot_log.scalars(run)
    assert plot_log.series(rows, 'loss') == [(10, 5.0), (20, 4.0), (30, 3.0), (40, 2.0)]
    assert plot_log.series(rows, 'mIoU') == [(40, 2.0)]


def test_a_last_line_that_was_cut_off_is_left_out_and_another_is_named(run):
    (file,) = run.glob('*/vis_data/scalars.json')
    text = file.read_text()
    file.write_text(text + '{"step": 50, "lo')
    assert [row['step'] for row in plot_log.scalars(run)] == [10, 20, 20, 30, 40, 40]
    file.write_text('{"step": 5, "lo\n' + text)
    with pytest.raises(ValueError, match='line 1 is not'):
        plot_log.scalars(run)


def drawn(monkeypatch):
    """Every line that is drawn: (panel, label, points)."""
    lines = []
    real = plot_log.plt.Axes.plot

    def plot(axes, *data, **settings):
        lines.append((axes, settings.get('label'), list(zip(*data))))
        return real(axes, *data, **settings)

    monkeypatch.setattr(plot_log.plt.Axes, 'plot', plot)
    return lines


def test_runs_lie_over_each_other_loss_rate_and_the_metric_of_the_task(
        run, tmp_path, monkeypatch, capsys):
    other = write(tmp_path / 'other', [step(10, 6.0, 0.2), {'coco/bbox_mAP': 0.2, 'step': 1}])
    lines = drawn(monkeypatch)
    out = tmp_path / 'new' / 'x.png'
    plot_log.main([str(run), f'second={other}', '--out', str(out)])
    assert [(label, points) for _, label, points in lines] == [
        ('first', [(10, 5.0), (20, 4.0), (30, 3.0), (40, 2.5)]), ('second', [(10, 6.0)]),
        ('first', [(s, 0.1) for s in (10, 20, 30, 40)]), ('second', [(10, 0.2)]),
        ('first', [(20, 0.1), (40, 0.3)]), ('second', [(10, 0.2)])]
    assert [axes.get_ylabel() for axes, _, _ in lines[::2]] == [
        'training loss', 'learning rate', 'coco/bbox_mAP']
    picture = cv2.imread(str(out))
    assert picture is not None and picture.std() > 0
    told = capsys.readouterr().out
    assert 'first: iteration 40, loss 2.5; coco/bbox_mAP 0.3, highest 0.3 at 40' in told


@pytest.mark.parametrize('arguments, sentence', [
    (['{run}', '--metrics', 'mAP'], "--metrics must be among what was logged, ('coco/bbox_mAP'"),
    (['{run}', '{run}'], "two are called 'first'"), (['{run}/no'], 'and {run}/no has none'),
    (['{run}', '--out', 'x.txt'], '--out must end in .png, .svg or .pdf')])
def test_a_mistake_ends_in_a_sentence(run, arguments, sentence):
    with pytest.raises(SystemExit) as end:
        plot_log.main([text.format(run=run) for text in arguments])
    assert end.value.code.startswith('Error: ') and sentence.format(run=run) in end.value.code
