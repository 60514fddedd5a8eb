"""Children of mmengine's registries under the scope `swinv2_mm`.

mmengine imports `{scope}.registry` when it meets a type such as 'swinv2_mm.SwinTransformerV2', and
then the locations below. So our types resolve in any config, under any default scope, without
`custom_imports`.
"""
from mmengine import registry as mmengine
from mmengine.registry import Registry

MODELS = Registry(
    'model', parent=mmengine.MODELS, scope='swinv2_mm',
    locations=['swinv2_mm.models', 'swinv2_mm.evaluation'])
WEIGHT_INITIALIZERS = Registry(
    'weight initializer', parent=mmengine.WEIGHT_INITIALIZERS, scope='swinv2_mm',
    locations=['swinv2_mm.checkpoints'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor', parent=mmengine.OPTIM_WRAPPER_CONSTRUCTORS,
    scope='swinv2_mm', locations=['swinv2_mm.engine'])
HOOKS = Registry(
    'hook', parent=mmengine.HOOKS, scope='swinv2_mm',
    locations=['swinv2_mm.engine', 'swinv2_mm.evaluation'])
VISBACKENDS = Registry(
    'vis_backend', parent=mmengine.VISBACKENDS, scope='swinv2_mm', locations=['swinv2_mm.engine'])
TRANSFORMS = Registry(
    'transform', parent=mmengine.TRANSFORMS, scope='swinv2_mm',
    locations=['swinv2_mm.datasets.videos', 'swinv2_mm.datasets.images',
               'swinv2_mm.datasets.masking'])
STRATEGIES = Registry(
    'strategy', parent=mmengine.STRATEGIES, scope='swinv2_mm',
    locations=['swinv2_mm.engine.strategies'])
