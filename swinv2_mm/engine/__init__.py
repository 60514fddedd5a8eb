"""What mmengine lets a package add: optimizers of SwinV2, and training that survives its faults."""
from .activations import ActivationHook
from .checkpoints import CheckpointHook
from .growth import GrowthHook
from .numerics import NumericsHook
from .optimizer import SwinV2OptimWrapperConstructor
from .positions import PositionsHook
from .records import LocalVisBackend
from .schedules import ScheduleHook

__all__ = ['ActivationHook', 'CheckpointHook', 'GrowthHook', 'LocalVisBackend', 'NumericsHook',
           'PositionsHook', 'ScheduleHook', 'SwinV2OptimWrapperConstructor']
