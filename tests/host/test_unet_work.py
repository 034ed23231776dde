"""S* costs nothing while sampling: the UNet does the same operations as for plain text."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


class OperationCounter(TorchDispatchMode):
    """Counts every tensor operation, with the shapes it works on."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        shapes = tuple(tuple(a.shape) for a in args if isinstance(a, torch.Tensor))
        self.counts[str(func), shapes] += 1
        return func(*args, **(kwargs or {}))


def one_step(host, model, conditioning):
    """(operations, FLOPs, latents) of one guided Euler step at 64 x 64 pixels."""
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    (negative,) = host.run("CLIPTextEncode", clip=model[1], text="")
    settings = {"seed": 1, "steps": 1, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    with FlopCounterMode(display=False) as flops, OperationCounter() as operations:
        (out,) = host.run(
            "KSampler", model=model[0], positive=conditioning, negative=negative, latent_image=latent, **settings
        )
    return operations.counts, flops.get_total_flops(), out["samples"]


@pytest.mark.parametrize("injection", ["token", "sum"])
def test_one_sampling_step_costs_what_plain_text_costs(injection, host, small_models):
    s_star = host.pack_module("f2d_core.s_star").SStar(torch.randn(2, 768), injection=injection)
    (plain,) = host.run("CLIPTextEncode", clip=small_models[1], text="a photo of a person")
    conditioning, _ = host.run("F2DInject", clip=small_models[1], text="a photo of S*", s_star=(s_star,))
    one_step(host, small_models, plain)  # loads the model
    operations, flops, latents = one_step(host, small_models, plain)
    ours, our_flops, our_latents = one_step(host, small_models, conditioning)
    assert flops > 1e8 and sum(operations.values()) > 200
    assert our_flops == flops
    assert ours == operations
    assert not torch.equal(latents, our_latents)
