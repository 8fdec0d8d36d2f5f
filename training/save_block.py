"""An adapter's folder says which block it was trained with, and opens as a whole model does."""

from pathlib import Path

from transformers import TrainerCallback
from transformers.dynamic_module_utils import custom_object_save
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from blocks import circle_rope_model


def save_block(model, folder: str | Path) -> None:
    """Put the model's config.json, and the code that it names, beside an adapter, whose own files hold no block.

    `AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)` then loads the adapter's base under
    this block, with the adapter on it.
    """
    model = circle_rope_model(model)
    Path(folder).mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    custom_object_save(model, folder)


class SaveBlock(TrainerCallback):
    """Every checkpoint of an adapter gets the block that its last step was trained with."""

    def on_save(self, args, state, control, model=None, **kwargs):
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        if state.is_world_process_zero and (folder / "adapter_config.json").exists():
            save_block(model, folder)
