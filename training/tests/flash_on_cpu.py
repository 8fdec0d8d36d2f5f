"""An external plugin for ms-swift that stands in for flash attention on the CPU.

ms-swift packs under flash attention alone, whose kernels need a GPU. This puts sdpa, sample by sample, in the place of
the kernel: everything before it (template, collator, trainer, model) is what runs on a GPU too.
"""

import torch
from transformers import AttentionInterface, PreTrainedModel


def attention(module, query, key, value, attention_mask, scaling=None, is_causal=None, cu_seq_lens_q=None, **kwargs):
    assert attention_mask is None or attention_mask.all()
    causal = module.is_causal if is_causal is None else is_causal
    lengths = [query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.diff().tolist()
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    parts = [
        torch.nn.functional.scaled_dot_product_attention(*sample, is_causal=causal, scale=scaling)
        for sample in zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)))
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register("flash_attention_2", attention)
PreTrainedModel._check_and_adjust_attn_implementation = lambda self, implementation, *args, **kwargs: implementation
