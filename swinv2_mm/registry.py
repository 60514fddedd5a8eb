"""Children of mmengine's registries under the scope `swinv2_mm`.

mmengine imports `{scope}.registry` when it meets a type such as 'swinv2_mm.SwinTransformerV2', and
then the locations below. So our types resolve in any config, under any default scope, without
`custom_imports`.
"""
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='swinv2_mm', locations=['swinv2_mm.models'])
