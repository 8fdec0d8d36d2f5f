"""`transformers serve` for Circle-RoPE checkpoints: python -m serving.transformers_serve MODEL [its options]

That command takes the class that a config.json names from transformers itself, where ours is not.
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m serving.transformers_serve", file=sys.stderr)
    sys.exit(2)

import transformers
from transformers.cli.transformers import main
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2 as Config
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2 as Model

if __name__ == "__main__":
    transformers.AutoConfig.register(Config.model_type, Config)
    setattr(transformers, Model.__name__, Model)
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[Config.model_type] = Model.__name__
    sys.argv.insert(1, "serve")
    main()
