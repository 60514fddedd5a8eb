"""Averages leave out classes without a sample, and samples without a label; both are named."""
import importlib
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, init_default_scope

from swinv2_mm.evaluation.present import mend_all

CLASSES = ('a', 'b', 'c')


@pytest.fixture
def log(monkeypatch):
    """Keeps the lines that the mended metrics warn of."""
    log = SimpleNamespace(lines=[])
    log.warning = log.lines.append
    monkeypatch.setattr('swinv2_mm.evaluation.present.MMLogger',
                        SimpleNamespace(get_current_instance=lambda: log))
    return log


def evaluated(metric, samples):
    """What a mended metric says of data samples as dicts."""
    metric.dataset_meta = dict(classes=CLASSES)
    mend_all([metric])
    mend_all([metric])  # the second time changes nothing
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def single(label, found, classes=3):
    scores = torch.full((classes,), 0.1)
    scores[found] = 0.9
    return dict(pred_score=scores, gt_label=torch.tensor([label]))


def test_a_perfect_model_recalls_all_of_the_classes_that_are_there(log):
    from mmpretrain.evaluation import SingleLabelMetric
    found = evaluated(SingleLabelMetric(), [single(0, 0), single(1, 1), single(1, 1)])
    assert set(found.values()) == {100.0} and len(found) == 3
    assert log.lines == ['SingleLabelMetric: 1 of 3 classes have no sample here and are left out '
                         'of its means: c']


def test_with_all_classes_there_the_metrics_are_those_of_the_library(log):
    from mmpretrain.evaluation import SingleLabelMetric
    samples = [single(0, 0), single(1, 2), single(2, 2), single(2, 1)]
    plain = SingleLabelMetric(thrs=(0.0, 0.95), items=('precision', 'recall', 'support'))
    plain.process(None, samples)
    mended = SingleLabelMetric(thrs=(0.0, 0.95), items=('precision', 'recall', 'support'))
    assert evaluated(mended, samples) == pytest.approx(plain.evaluate(4))
    assert not log.lines


def test_classwise_an_absent_class_has_no_number_and_micro_stays(log):
    from mmpretrain.evaluation import SingleLabelMetric
    samples = [single(0, 0), single(1, 0)]
    found = evaluated(SingleLabelMetric(average=None, items=('recall',)), samples)
    assert str(found['single-label/recall_classwise']) == '[100.0, 0.0, nan]'
    micro = evaluated(SingleLabelMetric(average='micro', items=('recall',)), samples)
    assert micro == {'single-label/recall_micro': 50.0}


def several(labels, found):
    target = torch.zeros(3)
    target[labels] = 1
    scores = torch.full((3,), 0.1)
    scores[found] = 0.9
    return dict(pred_score=scores, gt_score=target)


@pytest.mark.parametrize('name', ['MultiLabelMetric', 'AveragePrecision'])
def test_several_labels_are_averaged_over_the_classes_that_are_there(name, log):
    import mmpretrain.evaluation
    metric = getattr(mmpretrain.evaluation, name)()
    found = evaluated(metric, [several([0, 1], [0, 1]), several([0], [0]), several([1], [1])])
    assert all(value == 100.0 for value in found.values())
    assert 'left out of its means: c' in log.lines[0]


def test_the_metrics_of_several_tasks_are_mended_too(log):
    from mmpretrain.evaluation import MultiTasksMetric
    from mmpretrain.registry import METRICS  # noqa: F401 - builds the inner ones
    init_default_scope('mmpretrain')
    metric = MultiTasksMetric(dict(one=[dict(type='SingleLabelMetric', items=['recall'])]))
    mend_all([metric])
    (inner,) = metric._metrics['one']
    inner.process(None, [single(0, 0), single(1, 1)])
    assert inner.evaluate(2) == {'single-label/recall': 100.0}


def area(label, found):
    return dict(gt_sem_seg=dict(data=torch.tensor([label])),
                pred_sem_seg=dict(data=torch.tensor([found])))


def test_one_pixel_of_a_class_that_no_map_holds_does_not_halve_the_iou(log):
    from mmseg.evaluation import IoUMetric
    sample = area([[0, 0, 0, 1]], [[0, 0, 2, 1]])
    found = evaluated(IoUMetric(iou_metrics=['mIoU', 'mDice']), [sample])
    assert found['mIoU'] == pytest.approx(83.33, abs=0.01)
    assert found['mDice'] == pytest.approx(90)
    assert 'left out of its means: c' in log.lines[0]


def test_a_class_that_is_there_and_never_found_counts_as_0_in_the_f_score(log):
    from mmseg.evaluation import IoUMetric
    sample = area([[0, 0, 1, 2]], [[0, 0, 0, 2]])
    found = evaluated(IoUMetric(iou_metrics=['mFscore']), [sample])
    assert found['mFscore'] == pytest.approx((80 + 0 + 100) / 3, abs=0.01)
    assert found['mPrecision'] == pytest.approx((66.67 + 0 + 100) / 3, abs=0.01)


@pytest.fixture(scope='module')
def actions():
    importlib.import_module('swinv2_mm.utils.compat')  # before anything of mmaction
    return importlib.import_module('mmaction.evaluation')


def test_films_without_a_label_are_left_out_of_the_accuracy_and_counted(actions, log):
    samples = [single(0, 0), single(1, 1), single(-1, 0), single(-1, 1)]
    found = evaluated(actions.AccMetric(), samples)
    assert found['acc/top1'] == 1.0
    assert found['acc/mean1'] == 1.0
    assert log.lines[0] == ('AccMetric: 2 of 4 samples have no label and are left out')


def test_the_mean_class_accuracy_is_of_classes_that_are_there(actions, log):
    samples = [single(0, 0), single(0, 0), single(0, 2), single(1, 1)]
    assert evaluated(actions.AccMetric(), samples)['acc/mean1'] == pytest.approx((2 / 3 + 1) / 2)
    assert 'left out of its means: c' in log.lines[0]


def test_films_with_no_label_of_several_are_left_out(actions, log):
    def film(labels, found):
        sample = several(labels, found)
        return dict(pred_score=sample['pred_score'], gt_label=sample['gt_score'])

    metric = actions.AccMetric(metric_list='mmit_mean_average_precision')
    found = evaluated(metric, [film([0], [0]), film([], [1])])
    assert found == {'acc/mmit_mean_average_precision': 1.0}


def test_a_list_without_any_label_has_no_accuracy(actions, log):
    assert evaluated(actions.AccMetric(), [single(-1, 0)]) == {}
    assert evaluated(actions.ConfusionMatrix(), [single(-1, 0)]) == {}


def test_a_metric_that_counts_in_a_way_of_its_own_is_let_be(log):
    from mmpretrain.evaluation import SingleLabelMetric

    class Own(SingleLabelMetric):
        @staticmethod
        def calculate(pred, target, **kwargs):
            return [(torch.tensor(1.0),) * 4]

    assert evaluated(Own(items=('recall',)), [single(0, 0)]) == {'single-label/recall': 1.0}


def test_train_and_test_add_the_hook_where_a_config_lacks_it():
    from swinv2_mm.apis.launch import _count_present
    cfg = Config(dict(default_hooks=dict(timer=dict(type='IterTimerHook'))))
    _count_present(cfg)
    _count_present(cfg)
    assert cfg.custom_hooks == [dict(type='swinv2_mm.PresentClasses')]
    HOOKS.build(cfg.custom_hooks[0])
