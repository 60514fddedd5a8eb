"""What is counted, written and drawn when a model is tested: what the libraries lack."""
from .present import PresentClasses
from .views import TwoStageViews

__all__ = ['PresentClasses', 'TwoStageViews']
