"""LLaMA-Factory's training of a converted checkpoint: frozen and LoRA parts as for Qwen2.5-VL, positions by the model.

python -m training.llamafactory CONFIG.yaml       in place of llamafactory-cli train, whose options it takes
torchrun --nproc-per-node 8 -m training.llamafactory CONFIG.yaml

LLaMA-Factory knows models by their `model_type`: of one that it does not know it trains the vision tower too, and its
collator puts a repeated row of fractions in front of positions, and casts them to the dtype of training.
"""

import copy
import sys
from dataclasses import replace
from pathlib import Path

if __spec__ is None:
    print("error: from the repo's root, this is python -m training.llamafactory", file=sys.stderr)
    sys.exit(2)

from llamafactory.data.collator import MultiModalDataCollatorForSeq2Seq as Collator
from llamafactory.model import loader
from llamafactory.model.model_utils.visual import COMPOSITE_MODELS
from llamafactory.train.tuner import run_exp

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2

from .save_block import ADAPTER_CONFIG, SaveBlock, save_block
from .tower import call_tower_on_every_rank
from .watch import Watch

MODEL_TYPE = Qwen2_5_VLConfig_CircleRoPE_V2.model_type


def make_collator(self):
    """In place of `__post_init__`: positions are left to the model, which makes them in float32."""
    if getattr(self, "neat_packing", False):
        sys.exit("error: neat_packing makes positions that Circle-RoPE has no place for: pack with ms-swift instead.")
    post_init(self)
    self.get_rope_func = None


def collate(self, features):
    """In place of `__call__`, which gives rows without pictures a masked one: `tower.py` needs none."""
    if any(feature.get(key) for feature in features for key in ("images", "videos")):
        return call(self, features)
    template, plugin = self.template, copy.copy(self.template.mm_plugin)
    plugin.image_token = None
    self.template = replace(template, mm_plugin=plugin)
    try:
        return call(self, features)
    finally:
        self.template = template


def prepare(model, *args, **kwargs):
    """In place of the loader's `patch_model`, which sees every model that is loaded."""
    if model.config.model_type != MODEL_TYPE:
        sys.exit(
            f"error: {model.name_or_path} is {model.config.model_type}, but training.llamafactory trains converted "
            "checkpoints: convert it with push_to_hub.py, or train it with llamafactory-cli."
        )
    patch_model(model, *args, **kwargs)
    call_tower_on_every_rank(model)


class SaveFinalBlock(SaveBlock):
    """Gives the output folder, which is written after all that callbacks see, its block as well."""

    trained = None

    def on_train_end(self, args, state, control, model=None, **kwargs):
        if state.is_world_process_zero:
            self.trained = model, Path(args.output_dir)


COMPOSITE_MODELS[MODEL_TYPE] = replace(COMPOSITE_MODELS["qwen2_5_vl"], model_type=MODEL_TYPE)
post_init, call, patch_model = Collator.__post_init__, Collator.__call__, loader.patch_model
Collator.__post_init__, Collator.__call__, loader.patch_model = make_collator, collate, prepare


def main():
    block = SaveFinalBlock()
    run_exp(callbacks=[block, Watch()])
    if block.trained and (block.trained[1] / ADAPTER_CONFIG).exists():
        save_block(*block.trained)


if __name__ == "__main__":
    main()
