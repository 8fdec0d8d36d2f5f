"""The reference model of TRL's trainers (DPO, GRPO, RLOO, KTO): the checkpoint that is trained, under the same block.

TRL loads it by itself from the name of the checkpoint, and so from the checkpoint's own config: of an official one it
would be the stock model with M-RoPE.
"""

import copy
import sys
from contextlib import contextmanager

from .blocks import circle_rope_model

LOADER = "create_model_from_path"


@contextmanager
def own_reference(model):
    """TRL trainers that are made within it load their reference model with the class and the block of `model`.

        with own_reference(model):
            trainer = DPOTrainer(model, args=..., train_dataset=..., processing_class=...)

    A reference that is given (`ref_model=`) is left as it is, and PEFT needs none: the adapter is switched off.

    Args:
        model: what is trained, loaded from a directory or hub id; its weights are read from there anew.

    Raises:
        ValueError: no Circle-RoPE model, or no name to load it from.
        ImportError: a TRL without the function that loads the reference.
    """
    model = circle_rope_model(model)
    name = model.config._name_or_path
    if not name:
        raise ValueError("the model was not loaded from a directory or hub id: save it first, and load it from there.")

    def load(model_id, architecture=None, **options):
        if model_id != name:
            return upstream(model_id, architecture, **options)
        options = {"dtype": model.dtype, "attn_implementation": model.config._attn_implementation, **options}
        for key in ("trust_remote_code", "revision"):  # the class is here, and the config knows its commit
            options.pop(key, None)
        return type(model).from_pretrained(name, config=copy.deepcopy(model.config), **options)

    from trl.trainer import utils

    if not hasattr(utils, LOADER):
        raise ImportError(f"this TRL has no {LOADER}, with which it loads reference models: pass ref_model.")
    upstream = getattr(utils, LOADER)
    _replace(upstream, load)
    try:
        yield
    finally:
        _replace(load, upstream)


def _replace(old, new):
    """TRL's modules import the function by name, each for itself."""
    for name, module in list(sys.modules.items()):
        if name.startswith("trl.") and vars(module).get(LOADER) is old:
            setattr(module, LOADER, new)
