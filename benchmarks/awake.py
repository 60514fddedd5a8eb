"""Random weights of a trained model's size, for tests and benchmarks alike."""
import torch


def awaken(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every parameter of a SwinV2 a random value of a trained model's size; in place.

    A fresh SwinV2 has zeroed post-norm weights, so that every block is the identity and anything
    at all may be wrong inside it: a test on a fresh model proves nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter)
        if name.endswith('logit_scale'):
            value = 2.3 + 0.5 * noise  # around log 10, where training starts
        elif 'norm' in name and name.endswith('weight'):
            value = 1 + 0.2 * noise
        elif parameter.ndim == 1:
            value = 0.3 * noise
        elif name.endswith('cpb_mlp.2.weight'):
            value = 0.15 * noise  # spreads the bias over most of (0, 16)
        else:
            value = noise * parameter[0].numel() ** -0.5  # keeps activations of size 1
        with torch.no_grad():
            parameter.copy_(value)
    return model
