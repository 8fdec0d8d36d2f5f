"""An adapter's folder says which block it was trained with, and opens as a whole model does."""

import json
from pathlib import Path

from transformers import TrainerCallback
from transformers.dynamic_module_utils import custom_object_save
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .blocks import circle_rope_model

ADAPTER_CONFIG = "adapter_config.json"
# The block's key in adapter_config.json. PEFT warns of a key that it does not know, and so says what to do where the
# adapter is put onto a model with M-RoPE: transformers 4 looks at nothing else before it loads the base.
BLOCK = "circle_rope, which needs the base under the config.json of this folder"


def save_block(model, folder: str | Path) -> None:
    """Put the model's config.json, and the code that it names, beside an adapter, whose own files hold no block.

    `AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)` then loads the adapter's base under
    this block, with the adapter on it (on transformers 4 where the base is converted).

    Raises:
        FileNotFoundError: the adapter has not been saved there.
    """
    model, file = circle_rope_model(model), Path(folder) / ADAPTER_CONFIG
    adapter = json.loads(file.read_text(encoding="utf-8"))
    model.config.save_pretrained(folder)
    custom_object_save(model, folder)
    adapter[BLOCK] = model.config.circle_rope
    file.write_text(json.dumps(adapter, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


class SaveBlock(TrainerCallback):
    """Every checkpoint of an adapter gets the block that its last step was trained with."""

    def on_save(self, args, state, control, model=None, **kwargs):
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        if state.is_world_process_zero and (folder / ADAPTER_CONFIG).exists():
            save_block(model, folder)
