"""What every segmentation run needs: scope, hooks, logging. All runs count iterations."""
default_scope = 'mmseg'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='swinv2_mm.CheckpointHook', by_epoch=False, interval=16000, max_keep_ckpts=3,
        save_best='mIoU'),
    numerics=dict(type='swinv2_mm.NumericsHook', policy='skip', max_skips=10),
    present=dict(type='swinv2_mm.PresentClasses'),
    sampler_seed=dict(type='DistSamplerSeedHook'))

env_cfg = dict(
    cudnn_benchmark=True,  # all training crops have one size
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

visualizer = dict(
    type='SegLocalVisualizer', name='visualizer', alpha=0.6,
    vis_backends=[dict(type='swinv2_mm.LocalVisBackend')])
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False

tta_model = dict(type='SegTTAModel')
