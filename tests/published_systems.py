"""What was published on the detection systems, and where; a path into a config -> its value."""
from config_checks import ZOO

SYSTEMS = {f'{head} {size}': f'configs/det/swinv2_{size[0]}_{file}.py' for head, file, sizes in (
    ('mask2former', 'mask2former_instance', ('tiny', 'large')), ('dino', 'dino', ('tiny', 'large')),
    ('htc++', 'htcpp', ('large', 'giant'))) for size in sizes}

# Numbers in a path index lists. Sources:
# M: mmdet's mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco and what it inherits.
# ML: mmdet's mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic, for queries, length.
# D4: mmdet's dino-4scale_r50_8xb2-12e_coco. D5: mmdet's dino-5scale_swin-l_8xb2-{12,36}e_coco.
# X: detrex's DINO-Swin-T-224-4scale. H: mmdet's htc_r50_fpn_1x_coco and what it inherits.
# I: mmdet's instaboost configs, the values of its authors. V1: official Swin V1 recipe, 3x.
# A1, A2.1, A2.2: the paper's appendices. W: the paper's COCO ablation, as no V2 has these heads.
ADAMW = {'optim_wrapper.optimizer.type': 'AdamW'}
MASK2FORMER = ADAMW | {
    'model.type': 'Mask2Former',
    'model.backbone.window_size': 16,  # W
    'model.backbone.drop_path_rate': 0.3,  # M
    'optim_wrapper.optimizer.lr': 1e-4,  # M
    'optim_wrapper.optimizer.weight_decay': 0.05,  # M
    'optim_wrapper.optimizer.betas': (0.9, 0.999),  # M
    'optim_wrapper.optimizer.eps': 1e-8,  # M
    'optim_wrapper.clip_grad': dict(max_norm=0.01, norm_type=2),  # M
    'optim_wrapper.paramwise_cfg.backbone_lr_mult': 0.1,  # M
    'auto_scale_lr.base_batch_size': 16,  # M
    'param_scheduler.0.type': 'MultiStepLR',  # M
    'param_scheduler.0.gamma': 0.1,  # M
    'param_scheduler.0.by_epoch': False,  # M
    'train_cfg.type': 'IterBasedTrainLoop',  # M
    'train_cfg.val_interval': 5000,  # M
    'model.data_preprocessor.batch_augments.0.size': (1024, 1024),  # M
    'model.panoptic_head.num_things_classes': 80,  # M
    'model.panoptic_head.num_stuff_classes': 0,  # M
    'model.panoptic_head.loss_cls.class_weight': [1.0] * 80 + [0.1],  # M
    'model.panoptic_head.loss_cls.loss_weight': 2.0,  # M
    'model.panoptic_head.loss_mask.loss_weight': 5.0,  # M
    'model.panoptic_head.loss_dice.loss_weight': 5.0,  # M
    'model.panoptic_head.pixel_decoder.encoder.num_layers': 6,  # M
    'model.panoptic_head.transformer_decoder.num_layers': 9,  # M
    'model.train_cfg.num_points': 12544,  # M
    'model.test_cfg.max_per_image': 100,  # M
    'train_pipeline.2': dict(type='RandomFlip', prob=0.5),  # M
    'train_pipeline.3.scale': (1024, 1024),  # M
    'train_pipeline.3.ratio_range': (0.1, 2.0),  # M
    'train_pipeline.4.type': 'RandomCrop',  # M
    'train_pipeline.4.crop_size': (1024, 1024),  # M
    'train_pipeline.4.crop_type': 'absolute',  # M
    'train_pipeline.5.by_mask': True,  # M
    'test_pipeline.1.scale': (1333, 800),  # M
}
SCALES = [(short, 1333) for short in range(480, 801, 32)]
DINO = ADAMW | {
    'model.type': 'DINO',
    'model.backbone.window_size': 16,  # W
    'optim_wrapper.optimizer.lr': 1e-4,  # D4
    'optim_wrapper.optimizer.weight_decay': 1e-4,  # D4
    'optim_wrapper.clip_grad': dict(max_norm=0.1, norm_type=2),  # D4
    'optim_wrapper.paramwise_cfg': dict(backbone_lr_mult=0.1),  # D4
    'auto_scale_lr.base_batch_size': 16,  # D4
    'param_scheduler.0.type': 'MultiStepLR',  # D4
    'param_scheduler.0.milestones': [11],  # D4
    'param_scheduler.0.gamma': 0.1,  # D4
    'train_cfg.max_epochs': 12,  # D4
    'model.num_queries': 900,  # D4
    'model.with_box_refine': True,  # D4
    'model.as_two_stage': True,  # D4
    'model.encoder.num_layers': 6,  # D4
    'model.decoder.num_layers': 6,  # D4
    'model.decoder.layer_cfg.ffn_cfg.feedforward_channels': 2048,  # D4
    'model.positional_encoding.temperature': 20,  # D4
    'model.dn_cfg.box_noise_scale': 1.0,  # D4
    'model.dn_cfg.group_cfg.num_dn_queries': 100,  # D4
    'model.bbox_head.loss_cls.loss_weight': 1.0,  # D4
    'model.bbox_head.loss_bbox.loss_weight': 5.0,  # D4
    'model.bbox_head.loss_iou.loss_weight': 2.0,  # D4
    'model.test_cfg.max_per_img': 300,  # D4
    'train_dataloader.dataset.filter_cfg': dict(filter_empty_gt=False),  # D4
    'train_pipeline.3.transforms.0.0.scales': SCALES,  # D4
    'train_pipeline.3.transforms.1.0.scales': [(s, 4200) for s in (400, 500, 600)],  # D4
    'train_pipeline.3.transforms.1.1.crop_size': (384, 600),  # D4
    'train_pipeline.3.transforms.1.2.scales': SCALES,  # D4
    'test_pipeline.1.scale': (1333, 800),  # D4
}
LEVELS = ('model.num_feature_levels', 'model.neck.num_outs',
          'model.encoder.layer_cfg.self_attn_cfg.num_levels',
          'model.decoder.layer_cfg.cross_attn_cfg.num_levels')
STDS = ([.1, .1, .2, .2], [.05, .05, .1, .1], [.033, .033, .067, .067])  # H
HTC = ADAMW | {
    'model.type': 'HybridTaskCascade',
    'model.backbone.window_size': 32,  # A2.1, A2.2
    'model.backbone.with_cp': True,  # section 3.5
    'optim_wrapper.optimizer.weight_decay': 0.05,  # A2.1, A2.2
    'optim_wrapper.paramwise_cfg': dict(backbone_lr_mult=0.1),  # A2.1
    'optim_wrapper.clip_grad': None,  # V1
    'param_scheduler.0.start_factor': 1e-3,  # V1
    'param_scheduler.0.end': 500,  # V1
    'param_scheduler.1.gamma': 0.1,  # V1
    'train_pipeline.1.prob': 1.0,
    'train_pipeline.1.transforms': [dict(  # A2.1; I
        type='InstaBoost', action_candidate=('normal', 'horizontal', 'skip'),
        action_prob=(1, 0, 0), scale=(0.8, 1.2), dx=15, dy=15, theta=(-1, 1), color_prob=0.5,
        hflag=False, aug_ratio=0.5)],
    'train_pipeline.2.with_seg': True,  # H
    'train_dataloader.dataset.data_prefix.seg': 'stuffthingmaps/train2017/',  # H
    'train_pipeline.4.scale': (1536, 1536),  # A2.1, A2.2
    'train_pipeline.4.ratio_range': (0.1, 2.0),  # A2.1, A2.2
    'train_pipeline.5.crop_size': (1536, 1536),  # A2.1, A2.2
    'train_pipeline.5.crop_type': 'absolute',
    'model.data_preprocessor.batch_augments.0.size': (1536, 1536),  # A2.1, A2.2
    'test_pipeline.1.scale': (1833, 1100),  # table 3: the short side
    'model.test_cfg.rcnn.nms.type': 'soft_nms',  # A2.1, A2.2
    'model.test_cfg.rcnn.score_thr': 0.001,  # H
    'model.test_cfg.rcnn.max_per_img': 100,  # H
    'model.roi_head.interleaved': True,  # H
    'model.roi_head.mask_info_flow': True,  # H
    'model.roi_head.stage_loss_weights': [1, 0.5, 0.25],  # H
    'model.roi_head.semantic_head.num_classes': 183,  # H
    'model.roi_head.semantic_head.loss_seg.loss_weight': 0.2,  # H
    'model.train_cfg.rpn_proposal.max_per_img': 2000,  # H
    **{f'model.roi_head.bbox_head.{i}.{key}': value for i, stds in enumerate(STDS)
       for key, value in {'type': 'Shared2FCBBoxHead', 'reg_class_agnostic': True,
                          'bbox_coder.target_stds': stds}.items()},
    **{f'model.roi_head.mask_head.{i}.with_conv_res': i > 0 for i in range(3)},  # H
    **{f'model.train_cfg.rcnn.{i}.assigner.pos_iou_thr': iou
       for i, iou in enumerate((.5, .6, .7))},
}
TINY = {'model.backbone.arch': 'tiny', 'model.backbone.pretrained_window_sizes': 8,
        'model.backbone.init_cfg.checkpoint': ZOO + 'swinv2_tiny_patch4_window8_256.pth'}
LARGE = {'model.backbone.arch': 'large', 'model.backbone.pretrained_window_sizes': [12, 12, 12, 6],
         'model.backbone.init_cfg.checkpoint': ZOO + 'swinv2_large_patch4_window12_192_22k.pth'}
PUBLISHED = {
    'mask2former tiny': MASK2FORMER | TINY | {
        'model.panoptic_head.num_queries': 100,  # M
        'train_cfg.max_iters': 368750,  # M
        'param_scheduler.0.end': 368750,  # M
        'param_scheduler.0.milestones': [327778, 355092]},  # M
    'mask2former large': MASK2FORMER | LARGE | {
        'model.panoptic_head.num_queries': 200,  # ML
        'train_cfg.max_iters': 737500,  # ML
        'param_scheduler.0.end': 737500,  # ML
        'param_scheduler.0.milestones': [655556, 710184]},  # ML
    'dino tiny': DINO | TINY | dict.fromkeys(LEVELS, 4) | {  # D4
        'model.backbone.out_indices': (1, 2, 3),  # D4
        'model.backbone.drop_path_rate': 0.1},  # X
    'dino large': DINO | LARGE | dict.fromkeys(LEVELS, 5) | {  # D5
        'model.backbone.out_indices': (0, 1, 2, 3),  # D5
        'model.backbone.with_cp': True,  # D5
        'model.backbone.drop_path_rate': 0.2},  # D5
    'htc++ large': HTC | LARGE | {
        'model.backbone.drop_path_rate': 0.2,  # V1 paper, HTC++
        'optim_wrapper.optimizer.lr': 4e-4,  # A2.1
        'auto_scale_lr.base_batch_size': 64,  # A2.1
        'train_cfg.max_epochs': 36,  # A2.1: 3x
        'param_scheduler.1.milestones': [27, 33]},  # V1
    'htc++ giant': HTC | {
        'model.backbone.arch': 'giant', 'model.backbone.init_cfg': None,
        'model.backbone.pretrained_window_sizes': [12, 12, 12, 6],
        'model.backbone.drop_path_rate': 0.4,  # A2.2, of ADE20K
        'optim_wrapper.optimizer.lr': 6e-4,  # A2.2
        'auto_scale_lr.base_batch_size': 96,  # A2.2
        'train_cfg.max_iters': 45000,  # A2.2
        'param_scheduler.1.end': 45000,  # A2.2
        'param_scheduler.1.milestones': [45000 * 27 // 36, 45000 * 33 // 36]},  # V1
}
