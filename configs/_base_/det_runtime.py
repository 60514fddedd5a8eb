"""What every detection run needs: scope, hooks, logging."""
default_scope = 'mmdet'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='swinv2_mm.CheckpointHook', interval=1, max_keep_ckpts=3, save_best='auto'),
    numerics=dict(type='swinv2_mm.NumericsHook', policy='skip', max_skips=10),
    present=dict(type='swinv2_mm.PresentClasses'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'))

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

visualizer = dict(
    type='DetLocalVisualizer', name='visualizer',
    vis_backends=[dict(type='swinv2_mm.LocalVisBackend')])
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
