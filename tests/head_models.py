"""Small models with every head of the libraries, on SwinV2; see head_walk.py."""
import torch
from conftest import awaken
from helpers import ROOT
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from small_models import ARCH, CHANNELS

import swinv2_mm.utils.compat  # noqa: F401 - makes mmaction2 importable

LAST = CHANNELS[-1]
SIZE = 64, 64
LARGE = {'LRASPPHead': (224, 224)}  # pools over 49 x 49
SINGLE = dict(in_channels=LAST, in_index=3)
EVERY = dict(in_channels=CHANNELS, in_index=[0, 1, 2, 3])
SIGMOID = dict(type='CrossEntropyLoss', use_sigmoid=True)
SOFTMAX = dict(type='CrossEntropyLoss', use_sigmoid=False)
FCN = dict(type='FCNHead', channels=16, num_convs=1, **SINGLE)
NEW = dict(num_classes=3, in_channels=LAST)

# mmpretrain: heads of an ImageClassifier, and its losses for one label and for several.
CLS = {
    'ClsHead': {}, 'LinearClsHead': NEW, 'StackedLinearClsHead': dict(mid_channels=[8], **NEW),
    'VisionTransformerClsHead': NEW, 'ArcFaceClsHead': NEW, 'MultiLabelClsHead': {},
    'MultiLabelLinearClsHead': NEW, 'CSRAClsHead': dict(num_heads=1, lam=0.1, **NEW),
    'RegressionHead': {}, 'LinearRegressionHead': NEW, 'VigClsHead': dict(hidden_dim=8, **NEW),
    'MultiTaskHead': dict(task_heads=dict(a=dict(type='LinearClsHead', **NEW))),
    'LeViTClsHead': NEW, 'EfficientFormerClsHead': NEW, 'DeiTClsHead': NEW,
    'ConformerHead': dict(num_classes=3, in_channels=[LAST, LAST])}
NO_LOSS = {'RegressionHead', 'LinearRegressionHead', 'MultiTaskHead', 'ConformerHead'}
CLS_LOSSES = [SOFTMAX, SIGMOID, dict(type='CrossEntropyLoss', use_soft=True),
              dict(type='LabelSmoothLoss', label_smooth_val=0.1),
              dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='multi_label'),
              dict(type='FocalLoss'), dict(type='AsymmetricLoss'),
              dict(type='SeesawLoss', num_classes=3)]

# mmsegmentation: heads of an EncoderDecoder, cascades after a first head.
SEG = {
    'ANNHead': dict(in_channels=[64, 128], in_index=[2, 3], project_channels=16),
    'APCHead': SINGLE, 'ASPPHead': SINGLE, 'CCHead': SINGLE,
    'DAHead': dict(pam_channels=8, **SINGLE),
    'DDRHead': SINGLE, 'DMHead': SINGLE, 'DNLHead': SINGLE,
    'DPTHead': dict(embed_dims=LAST, post_process_channels=CHANNELS, **EVERY),
    'EMAHead': dict(ema_channels=16, num_bases=4, num_stages=2, **SINGLE),
    'EncHead': dict(num_codes=4, **EVERY), 'FCNHead': SINGLE,
    'FPNHead': dict(feature_strides=[4, 8, 16, 32], **EVERY), 'GCHead': SINGLE,
    'LightHamHead': dict(ham_channels=16, in_channels=[32, 64, 128], in_index=[1, 2, 3]),
    'ISAHead': dict(isa_channels=8, down_factor=(2, 2), **SINGLE),
    'IterativeDecodeHead': dict(num_stages=1, kernel_generate_head=FCN, kernel_update_head=[dict(
        type='KernelUpdateHead', num_classes=3, num_heads=2, feedforward_channels=16,
        in_channels=16, out_channels=16, num_mask_fcs=1, kernel_updator_cfg=dict(
            type='KernelUpdator', in_channels=16, feat_channels=16, out_channels=16))]),
    'LRASPPHead': dict(in_channels=[32, 32, 16], in_index=[1, 1, 0], branch_channels=(8, 16),
                       input_transform='multiple_select'),
    'NLHead': SINGLE,
    'OCRHead': dict(ocr_channels=8, **SINGLE), 'PIDHead': SINGLE,
    'PointHead': dict(in_channels=[16], in_index=[0]),
    'PSAHead': dict(mask_size=(2, 2), **SINGLE), 'PSPHead': SINGLE,
    'SegformerHead': EVERY,
    'SegmenterMaskTransformerHead': dict(num_layers=1, num_heads=2, embed_dims=16, **SINGLE),
    'DepthwiseSeparableASPPHead': dict(c1_in_channels=16, c1_channels=8, **SINGLE),
    'DepthwiseSeparableFCNHead': SINGLE,
    'SETRMLAHead': dict(mla_channels=16, in_channels=[128], in_index=[3]),
    'SETRUPHead': SINGLE, 'STDCHead': SINGLE, 'UPerHead': EVERY}
CASCADES = {'OCRHead', 'PointHead'}
SEG_LOSSES = [dict(type=name) for name in (
    'BoundaryLoss', 'DiceLoss', 'FocalLoss', 'HuasdorffDisstanceLoss', 'OhemCrossEntropy',
    'TverskyLoss')] + [dict(type='LovaszLoss', reduction='none'), SIGMOID, SOFTMAX]

# mmaction2: heads of a Recognizer3D; those of other recognizers take other features.
ACTIONS = {'I3DHead': {}, 'X3DHead': {}, 'UniFormerHead': {}, 'OmniHead': dict(
    image_classes=3, video_classes=3), 'FeatureHead': {}, 'TimeSformerHead': {}, 'MViTHead': {},
    'SlowFastHead': {}, 'TSNHead': {}, 'TSMHead': {}, 'TPNHead': {}, 'TRNHead': {}, 'GCNHead': {},
    'TSNAudioHead': {}, 'RGBPoseHead': dict(in_channels=(LAST, LAST))}
ACTION_LOSSES = [dict(type='CrossEntropyLoss'), dict(type='BCELossWithLogits'),
                 dict(type='CBFocalLoss', samples_per_cls=[1, 1, 1]),
                 dict(type='HVULoss', categories=['all'], category_nums=[3],
                      category_loss_weights=[1])]


def built(scope, cfg):
    """A model that is awake, with random heads that tell classes apart."""
    from mmengine.registry import MODELS
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(ConfigDict(cfg)).eval().requires_grad_(False)
    awaken(model.backbone)
    for parameter in model.parameters():
        if parameter.ndim > 1 and parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def backbone(**settings):
    return dict(type='swinv2_mm.SwinTransformerV2', arch=ARCH, window_size=4, drop_path_rate=0.0,
                **settings)


def classifier(head, loss):
    settings = dict(CLS[head], loss=loss) if loss else CLS[head]
    neck = None if head == 'CSRAClsHead' else dict(type='GlobalAveragePooling')
    return built('mmpretrain', dict(
        type='ImageClassifier', backbone=backbone(out_indices=(3,)), neck=neck,
        head=dict(type=head, **settings), data_preprocessor=dict(
            type='ClsDataPreprocessor', mean=[120.0] * 3, std=[58.0] * 3, to_rgb=True)))


def segmentor(head, loss, outputs):
    def settings(cfg):
        base = dict(channels=16, num_classes=3 if outputs == 3 else 2, loss_decode=loss)
        return base | cfg | (dict(out_channels=1, threshold=0.3) if outputs == 1 else {})

    chosen = dict(type=head, **SEG[head])
    if head == 'IterativeDecodeHead':
        chosen['kernel_generate_head'] = settings(FCN)
        chosen['kernel_update_head'] = [dict(chosen['kernel_update_head'][0], num_classes=outputs)]
    cfg = dict(type='EncoderDecoder', decode_head=chosen if head == 'IterativeDecodeHead' else
               settings(chosen))
    if head in CASCADES:
        first = dict(FCN) if head == 'OCRHead' else dict(
            type='FPNHead', feature_strides=[4, 8, 16, 32], channels=16, **EVERY)
        cfg = dict(type='CascadeEncoderDecoder', num_stages=2, decode_head=[
            settings(first), settings(chosen)])
    test = dict(mode='whole')
    if head == 'PointHead':
        test |= dict(subdivision_steps=1, subdivision_num_points=16, scale_factor=2)
    return built('mmseg', dict(
        cfg, backbone=backbone(), test_cfg=test, train_cfg=dict(), data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[120.0] * 3, std=[58.0] * 3, bgr_to_rgb=True,
            size_divisor=32)))


def recognizer(head, loss, average):
    settings = dict(num_classes=3, in_channels=LAST, loss_cls=loss, average_clips=average)
    if head in ('OmniHead', 'FeatureHead'):
        del settings['num_classes']
    if head == 'FeatureHead':
        del settings['in_channels']
    return built('mmaction', dict(
        type='Recognizer3D', backbone=backbone(out_indices=(3,)) | dict(
            type='swinv2_mm.SwinTransformerV2Video'),
        cls_head=dict(type=head, **(settings | ACTIONS[head])), data_preprocessor=dict(
            type='ActionDataPreprocessor', mean=[120.0] * 3, std=[58.0] * 3,
            format_shape='NCTHW')))


def masks():
    """mmsegmentation's Mask2Former, as our configs set it up."""
    model = Config.fromfile(ROOT / 'configs/_base_/models/mask2former_semantic.py').model
    model.backbone, model.decode_head.in_channels = backbone(), CHANNELS
    model.data_preprocessor.test_cfg = dict(size_divisor=32)
    return built('mmseg', model)


def old_masks():
    """mmsegmentation's MaskFormer."""
    head = dict(
        type='MaskFormerHead', in_channels=CHANNELS, feat_channels=16, out_channels=16,
        num_classes=3, num_queries=5, pixel_decoder=dict(
            type='mmdet.PixelDecoder', norm_cfg=dict(type='GN', num_groups=4),
            act_cfg=dict(type='ReLU')),
        positional_encoding=dict(num_feats=8, normalize=True), enforce_decoder_input_project=True,
        transformer_decoder=dict(
            return_intermediate=True, num_layers=1, layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=16, num_heads=2, batch_first=True),
                cross_attn_cfg=dict(embed_dims=16, num_heads=2, batch_first=True),
                ffn_cfg=dict(embed_dims=16, feedforward_channels=16, num_fcs=2,
                             act_cfg=dict(type='ReLU')))),
        loss_cls=dict(type='mmdet.CrossEntropyLoss', class_weight=[1.0] * 3 + [0.1]),
        loss_mask=dict(type='mmdet.FocalLoss', use_sigmoid=True),
        loss_dice=dict(type='mmdet.DiceLoss', use_sigmoid=True))
    return built('mmseg', dict(
        type='EncoderDecoder', backbone=backbone(), decode_head=head, test_cfg=dict(mode='whole'),
        data_preprocessor=dict(type='SegDataPreProcessor', test_cfg=dict(size_divisor=32))))
