"""Saves what the installed transformers writes for stock Qwen2.5-VL, for other releases to read.

python -m tests.save_stock DIRECTORY

That is a whole checkpoint, and in `configs/` a config for each rope type with the frequencies that stock makes of it.
"""

import json
import shutil
import sys
from pathlib import Path

from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding

from tests.models import ROPES, config_arguments, save_base


def save_configs(directory):
    """Every rope type's config.json, with `inv_freq` and `attention_scaling` of the stock rotary embedding."""
    directory.mkdir()
    for name, scaling in ROPES.items():
        arguments = config_arguments()
        arguments["text_config"]["rope_scaling"] = dict(scaling)
        config = Qwen2_5_VLConfig(**arguments)
        rope = Qwen2_5_VLRotaryEmbedding(config=config.text_config)
        saved = {
            "config": json.loads(config.to_json_string()),
            "inv_freq": rope.inv_freq.tolist(),
            "attention_scaling": rope.attention_scaling,
        }
        (directory / f"{name}.json").write_text(json.dumps(saved, indent=2))


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    shutil.rmtree(directory, ignore_errors=True)
    save_base(directory)
    save_configs(directory / "configs")
