"""Scores that are shown and written are those of the model's own last step."""
import cv2
import numpy as np
import pytest
import torch
from infer_checks import DEMOS, ROOT, checkpoint, infer, picture, read, write_video
from mmengine.config import Config

from swinv2_mm.apis.inference import models
from swinv2_mm.apis.inference.cls import caption
from swinv2_mm.utils.errors import UserError

SEVERAL = dict(cls={'model.head.type': 'MultiLabelLinearClsHead', 'model.head.loss': dict(
    type='CrossEntropyLoss', use_sigmoid=True), 'model.head.topk': None},
    video={'model.cls_head.loss_cls.type': 'BCELossWithLogits', 'model.cls_head.multi_class': True})


def predictor(task, options):
    # The tensors of a head of several labels have the names of those of the demo's head.
    return models.load(str(ROOT / DEMOS[task]), str(checkpoint(task)), 'cpu', dict(options))


def numbers_of(predictor, part, asked):
    """What a head gave before its last step, and the sample that came of it."""
    found = []
    handle = part.register_forward_hook(lambda module, args, out: found.append(out))
    (sample,) = predictor.predict([asked])
    handle.remove()
    return torch.cat(found), sample


def test_a_film_with_several_labels_has_a_probability_for_each(tmp_path):
    film = str(write_video(tmp_path / 'film.mp4', 12))
    shown = predictor('video', SEVERAL['video'])
    numbers, sample = numbers_of(shown, shown.model.cls_head, film)
    right = numbers.sigmoid().mean(dim=0)
    assert abs(right.sum() - 1) > 0.1  # else a softmax would do as well
    assert torch.allclose(sample.pred_score, right, atol=1e-6)
    assert [row['score'] for row in shown.record(sample)['top']] == right.sort(
        descending=True).values[:5].tolist()


def test_a_film_with_one_label_has_the_librarys_softmax(tmp_path):
    film = str(write_video(tmp_path / 'film.mp4', 12))
    shown = predictor('video', {})
    numbers, sample = numbers_of(shown, shown.model.cls_head, film)
    assert torch.allclose(sample.pred_score, numbers.softmax(dim=1).mean(dim=0), atol=1e-6)
    (sample,) = predictor('video', {'model.cls_head.average_clips': 'score'}).predict([film])
    assert torch.allclose(sample.pred_score, numbers.mean(dim=0), atol=1e-5)


def test_a_model_that_averages_no_clips_is_refused():
    with pytest.raises(UserError, match="average_clips must be 'prob' or 'score', got None"):
        predictor('video', {'model.cls_head.average_clips': None})


def test_training_refuses_a_model_that_averages_no_clips():
    from swinv2_mm.datasets.checks.configured import Run
    from swinv2_mm.datasets.checks.settings import clip_average
    cfg = Config.fromfile(ROOT / DEMOS['video'])
    assert not list(clip_average(Run(cfg, ('train', 'val'))))
    del cfg.model.cls_head['average_clips']
    (found,) = clip_average(Run(cfg, ('train', 'val')))
    assert found.sentence == ('model.cls_head.average_clips is not set, so that a film has a score '
                              "for each clip and the accuracy is of none: set it to 'prob'.")


def test_a_picture_with_several_labels_has_a_probability_for_each_and_the_ones_it_has():
    shown = predictor('cls', SEVERAL['cls'])
    numbers, sample = numbers_of(shown, shown.model.head, picture(0))
    record, scores = shown.record(sample), numbers[0].sigmoid()
    assert [row['score'] for row in record['top']] == pytest.approx(
        scores.sort(descending=True).values[:5].tolist())
    assert [row['label'] for row in record['found']] == (scores >= 0.5).nonzero()[:, 0].tolist()
    assert 1 <= len(record['found']) < len(scores)


@pytest.mark.parametrize('head', [
    dict(type='LinearRegressionHead'),
    dict(type='MultiTaskHead', task_heads=dict(a=dict(type='LinearClsHead')))])
def test_heads_without_a_score_for_each_class_are_refused_by_name(head, monkeypatch):
    cfg = Config.fromfile(ROOT / DEMOS['cls'])
    sizes = {key: cfg.model.head[key] for key in ('num_classes', 'in_channels')}
    if 'task_heads' in head:
        head['task_heads']['a'].update(sizes)
        sizes = {}
    monkeypatch.setattr(models, 'load_weights', lambda *args: None)
    monkeypatch.setattr(models.Config, 'fromfile', lambda path: cfg)
    cfg.model.head = dict(head, **sizes)
    with pytest.raises(UserError, match=f'a {head["type"]} does not'):
        predictor('cls', {})


def test_a_score_that_is_no_probability_is_drawn_within_the_picture():
    drawn = caption(picture(0), [dict(score=7.5, name='a'), dict(score=-3.0, name='b')])
    assert drawn.shape[1] == 224


@pytest.mark.parametrize('truth, found, red', [
    ([0, 2], [0, 2], False), ([0, 2], [0], True), ([1], [], True), ([], [], False),
    ([1], [1], False), ([1], [0], True)])
def test_pictures_with_any_number_of_labels_are_drawn_beside_their_truth(truth, found, red):
    from mmpretrain.structures import DataSample

    from swinv2_mm.evaluation.cls_results import LINE, draw
    sample = DataSample().set_gt_label(truth).set_pred_label(found).set_pred_score(
        torch.tensor([0.9, 0.2, 0.7]))
    drawn = draw(picture(0), sample, ('a', 'b', 'c'))[-(LINE + 4):].astype(int)
    assert bool(((drawn[..., 2] - drawn[..., 0]) > 100).any()) == red


def test_the_classes_of_a_picture_are_in_its_json(tmp_path):
    cv2.imwrite(str(tmp_path / 'p.png'), picture(0))
    options = [f'{key}={value}' for key, value in SEVERAL['cls'].items()
               if not isinstance(value, dict)]
    out = infer('cls', [tmp_path / 'p.png'], tmp_path / 'out', '--cfg-options', *options,
                'model.head.loss.use_sigmoid=True')
    assert set(read(out, 'p')) >= {'top', 'found'}
    assert np.array_equal(cv2.imread(str(out / 'p.jpg')).shape[1], 224)
