"""Working results out again in the backward pass instead of keeping them for it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts, noop_context_fn


def recomputed(
    function: Callable[..., Tensor], x: Tensor, *others: Any, kept: Sequence[Callable[..., Any]] = ()
) -> Tensor:
    """Give ``function(x, *others)``; its backward pass starts from these and from what operators kept.

    Recomputing stops at the last input that the backward pass needs: an operator at the end that needs only
    its inputs, such as a convolution, does not run again. On other devices than the CPU, and in compiled
    graphs, which choose for themselves, this is a plain call.

    Args:
        function: What to work out; it draws no random numbers.
        x: Its first argument.
        others: Its other arguments.
        kept: Operators whose results are kept all the same, as they cost more time than they take memory.
    """
    if x.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(x, *others)
    contexts = partial(create_selective_checkpoint_contexts, list(kept)) if kept else noop_context_fn
    result: Tensor = checkpoint(
        function, x, *others, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
    )
    return result
