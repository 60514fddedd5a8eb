"""Mistakes a user makes with the tools: each ends in one sentence with the rule and what to do."""
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import DEMO, data_options, last_line, load_tool, make_shapes, run_tool
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('bad')


@pytest.fixture(scope='module')
def shapes(folder):
    return make_shapes(folder / 'shapes', train=4, val=2)


@pytest.fixture(scope='module')
def broken(shapes, folder):
    """The same set with a picture that is none."""
    shutil.copytree(shapes, folder / 'broken')
    (folder / 'broken' / 'train' / '000002.jpg').write_bytes(b'not a picture')
    return f'{folder}/broken/'


@pytest.fixture
def sentence(shapes, monkeypatch):
    """`sentence(tool, *arguments)`: what the tool ends in, before any model is built."""
    from swinv2_mm.utils import entry

    def end(name, *arguments):
        tool = load_tool(name)
        monkeypatch.setattr(tool.Runner, 'from_cfg', lambda cfg: pytest.fail('it went on'))
        options = [*data_options(shapes), *(a for a in arguments if '=' in a)]
        flags = [a for a in arguments if '=' not in a]
        monkeypatch.setenv('LOCAL_RANK', '0')  # the tools set it; put back after the test
        monkeypatch.setattr('sys.argv', [name, *flags, '--cfg-options', *options])
        with pytest.raises(SystemExit) as end:
            entry.run(tool.main)
        assert isinstance(end.value.code, str)  # Python prints it last, and the status is 1
        text = end.value.code
        assert text.startswith('Error: ') and '\n' not in text and text.endswith('.')
        return text

    return end


def dataset_settings(data_root, **loading):
    dataset = Config.fromfile(DEMO).train_dataloader.dataset
    dataset.data_root = data_root
    dataset.pipeline[0].update(loading)
    return dataset


def test_paths_that_do_not_exist(sentence, folder):
    assert sentence('train', 'configs/nope.py') == (
        "Error: There is no config at 'configs/nope.py': give the path of a config file, such as "
        'configs/det/swinv2_t_cascade.py.')
    assert "no config at 'configs'" in sentence('train', 'configs')  # a folder is no config
    no_checkpoint = "Error: There is no checkpoint at 'nope.pth': give the path of a .pth file."
    assert sentence('test', DEMO, 'nope.pth') == no_checkpoint
    assert sentence('train', DEMO, '--resume', 'nope.pth') == no_checkpoint
    assert sentence('train', DEMO, 'load_from=nope.pth') == no_checkpoint
    gone = sentence('train', DEMO, f'val_dataloader.dataset.data_root={folder}/nope/')
    assert f'There is no annotation file at \'{folder}/nope/val.json\'' in gone
    assert 'set data_root and ann_file of val_dataloader.dataset' in gone


@pytest.mark.parametrize('content, came', [
    ('\x00 hello', 'text that is not json'),
    ('[1, 2]', 'got list:'),
    ('3', 'got int:'),
    ('{"images": [], "annotations": []}', 'got an object without categories'),
    ('{"images": {}, "categories": []}', 'got an object without images and annotations'),
    ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', 'a category without a name'),
])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_annotations_that_are_not_coco(sentence, folder, content, came, split):
    path = folder / 'bad.json'
    path.write_text(content)
    text = sentence('train', DEMO, f'{split}_dataloader.dataset.data_root=',
                    f'{split}_dataloader.dataset.ann_file={path}')
    assert text.startswith(f'Error: {path} is not COCO json: it must be an object with the lists')
    assert came in text and text.endswith('convert the annotations to COCO format first.')


@pytest.mark.parametrize('classes, came, advice', [
    ('(disc,square,blob)', "got ('disc', 'square', 'blob')", "'blob' is no category of it"),
    ('(disc,sqaure)', "got ('disc', 'sqaure')", "did you mean 'square'"),
    ('(cross,ring,star,triangle,square,disc)', "got ('cross', 'ring'",
     "set classes=('disc', 'square', 'triangle', 'star', 'ring', 'cross') in "
     'all data sets.'),
    ('(disc,square,disc)', "got ('disc', 'square', 'disc')", "set classes=('disc', 'square') in"),
    ('(cat,dog)', "got ('cat', 'dog')", "set classes=('disc', 'square', 'triangle', 'star'"),
    ('disc', "got the string 'disc'", "write ('disc',)."),
], ids=['not in the file', 'misspelt', 'another order', 'twice', 'none of them', 'a bare string'])
@pytest.mark.parametrize('tool', ['train', 'test'])
def test_classes_that_do_not_match_the_data(sentence, folder, tool, classes, came, advice):
    (folder / 'model.pth').touch()
    split, arguments = ('val', []) if tool == 'train' else ('test', [str(folder / 'model.pth')])
    where = f'{split}_dataloader.dataset'
    text = sentence(tool, DEMO, *arguments, f'{where}.metainfo.classes={classes}')
    assert text.startswith(f'Error: metainfo.classes of {where} must be ')
    assert came in text and advice in text


def test_the_default_classes_of_a_data_set_are_checked_as_well(sentence):
    """A config without metainfo has the 80 of COCO, which must not be guessed for other data."""
    text = sentence('train', 'configs/det/swinv2_t_cascade.py')
    assert "got ('person', 'bicycle', 'car'" in text and '80 in all' in text


def test_mmdet_numbers_labels_by_the_file_whatever_the_order_of_classes(shapes):
    """Why another order is refused: results would carry the wrong names."""
    settings = dataset_settings(shapes)
    first = json.loads(Path(shapes, 'train.json').read_text())['categories'][0]
    assert first['name'] == settings.metainfo.classes[0] == 'disc'
    settings.metainfo.classes = settings.metainfo.classes[::-1]
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(settings)
    assert dataset.cat2label[first['id']] == 0 and dataset.metainfo['classes'][0] == 'cross'


@pytest.mark.parametrize('head', ['roi_head.bbox_head.1', 'roi_head.mask_head.2'])
def test_heads_that_do_not_match_the_classes(sentence, head):
    text = sentence('train', DEMO, f'model.{head}.num_classes=5')
    place = head.replace('.1', '[1]').replace('.2', '[2]')
    assert text == (f'Error: model.{place}.num_classes must be the number of classes of the data, '
                    '6, got 5: set it in the config.')


def test_data_sets_inside_wrappers_are_checked(shapes):
    from swinv2_mm.datasets.checks import check_data
    from swinv2_mm.utils.errors import UserError
    cfg = Config.fromfile(DEMO)
    inner = cfg.train_dataloader.dataset
    inner.update(data_root=shapes, metainfo=dict(classes=('disc',)))
    for wrapper in (dict(type='RepeatDataset', times=2, dataset=inner),
                    dict(type='ConcatDataset', datasets=[inner, inner]),
                    dict(type='RepeatDataset', dataset=dict(type='MultiImageMixDataset',
                                                            dataset=inner))):
        cfg.train_dataloader.dataset = ConfigDict(wrapper)
        with pytest.raises(UserError, match=r'must be the number of classes of the data, 1'):
            check_data(cfg, 'train')


def test_flags_that_ask_for_what_is_not_there(sentence, folder):
    model = folder / 'model.pth'
    model.touch()
    assert sentence('test', DEMO, str(model), '--out', 'a.json') == (
        "Error: --out must end in .pkl or .pickle, got 'a.json'.")
    assert sentence('test', DEMO, str(model), '--tta') == (
        'Error: --tta needs tta_pipeline in the config, which has none: add it.')
    assert sentence('train', DEMO, '--auto-scale-lr') == (
        'Error: --auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config, which '
        'has none: add it.')
    text = sentence('test', DEMO, str(model), '--show-dir', 'drawn', 'default_scope=mmrazor')
    assert '--show-dir works under mmdet' in text and "got a config with default_scope 'mm" in text
    if not torch.cuda.is_available():
        assert sentence('train', DEMO, '--amp') == (
            'Error: --amp needs a GPU that mmengine can run it on, and torch sees none here '
            '(device cpu): leave it out.')
        assert sentence('train', DEMO, '--launcher', 'pytorch') == (
            "Error: Processes on a machine without a GPU must talk by gloo, got 'nccl': add "
            '--cfg-options env_cfg.dist_cfg.backend=gloo.')


def test_an_option_without_a_value_is_named(capsys):
    from swinv2_mm.apis import launch
    with pytest.raises(SystemExit, match='2'):
        launch.parser('').parse_args([DEMO, '--cfg-options', 'a.b=1', 'max_iters'])
    assert capsys.readouterr().err.strip().splitlines()[-1].endswith(
        "error: --cfg-options takes KEY=VALUE, got 'max_iters': put = between the name of a "
        'setting and its value, without spaces.')


def test_a_slip_in_the_name_of_a_setting_is_named(sentence):
    assert sentence('train', DEMO, 'train_dataloder.batch_size=4') == (
        "Error: --cfg-options train_dataloder.batch_size: the config has 'train_dataloader' and "
        "nothing of the name 'train_dataloder': mend it, or put a new setting so named into a "
        'config file.')
    assert "has 'model.test_cfg.rcnn.score_thr' and" in sentence(
        'test', DEMO, 'model.pth', 'model.test_cfg.rcnn.score_tr=0.1')


def test_new_settings_are_no_slips():
    from swinv2_mm.apis import overrides
    cfg = Config(dict(model=dict(
        stage_norm1=dict(lr=1), head=dict(type='Head', in_channels=3), seed=1,
        pipeline=[dict(type='Load', to_float32=True)])))
    overrides.override(cfg, {
        'model.stage_norm2.lr': 2, 'model.head.c1_in_channels': 4, 'val_dataloader.batch_size': 1,
        'model.pipeline.0.to_float': 6, 'new.one': 7})
    model = cfg.model
    assert (model.stage_norm2.lr, model.head.c1_in_channels) == (2, 4)
    assert (model.pipeline[0].to_float, cfg.new.one, cfg.val_dataloader.batch_size) == (6, 7, 1)
    with pytest.raises(KeyError, match='Index 1 exceeds the length of list'):
        overrides.override(cfg, {'model.pipeline.1.type': 'Other'})
    with pytest.raises(TypeError, match="seed={'a': 1} in child config cannot inherit"):
        overrides.override(cfg, {'model.seed.a': 1})


# The rest goes through whole processes: the error comes from deep inside, and its sentence must
# still be the last line.


def test_an_unknown_arch_ends_in_the_sentence_of_the_backbone(shapes, folder):
    done = run_tool('tools/train.py', DEMO, '--work-dir', folder / 'arch', '--cfg-options',
                    *data_options(shapes), 'model.backbone.arch=vast')
    assert last_line(done) == (
        'Error: KeyError: arch must be one of nano, tiny, small, base, large, huge, giant or a '
        "dict with embed_dims, depths, num_heads, extra_norm_every, got 'vast'.")


def image_sentence(broken):
    return (f'Error: ValueError: failed to load image {broken}train/000002.jpg: it is no image of '
            "a known format, it starts with b'not a pictur', so replace the file or take it out of "
            'the annotations.')


def test_one_bad_image_more_than_the_limit_stops_training_and_is_named(broken, folder):
    done = run_tool('tools/train.py', DEMO, '--work-dir', folder / 'image', '--cfg-options',
                    *data_options(broken), 'train_dataloader.batch_size=4',
                    'train_dataloader.dataset.pipeline.0.limit=0')
    assert last_line(done) == (
        'Error: ValueError: At most 0 training files may be bad (limit of swinv2_mm.LoadImage), '
        f'and {broken}train/000002.jpg is number 1, it is no image of a known format, it starts '
        "with b'not a pictur': list all by `python tools/dataset/check.py CONFIG` and mend them or "
        'take them out, or raise limit.')
    assert not list((folder / 'image').glob('*.pth'))


def test_a_worker_names_the_image_as_well(broken):
    """Its error arrives as a traceback inside a message."""
    from swinv2_mm.utils import entry
    loader = dict(batch_size=4, num_workers=2, dataset=dataset_settings(broken, bad='raise'),
                  sampler=dict(type='DefaultSampler', shuffle=False))
    with DefaultScope.overwrite_default_scope('mmdet'):
        batches = iter(Runner.build_dataloader(loader))
    with pytest.raises(SystemExit) as end:
        entry.run(lambda: list(batches))
    assert end.value.code == image_sentence(broken)
    batches._shutdown_workers()  # a collection of garbage would wait 5 s for each


@pytest.mark.parametrize('ignore_empty', [False, True])
def test_no_setting_of_mmdet_puts_labels_on_an_image_that_was_not_decoded(broken, ignore_empty):
    settings = dataset_settings(broken)
    settings.pipeline[0] = ConfigDict(type='LoadImageFromFile', ignore_empty=ignore_empty)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(settings)
    for i in range(4):
        if i == 2:
            with pytest.raises(AssertionError, match='train/000002.jpg'):
                dataset[i]
        else:
            assert dataset[i]['data_samples'].img_path == f'{broken}train/00000{i}.jpg'
