"""`transformers serve` for Circle-RoPE checkpoints: python serving/transformers_serve.py MODEL [options of that command]

`transformers serve` takes the class that a config.json names from transformers itself, where ours is not.
"""

import sys
from pathlib import Path

import transformers
from transformers.cli.transformers import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2 as Config  # noqa: E402
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2 as Model  # noqa: E402

if __name__ == "__main__":
    if "--continuous-batching" in sys.argv:
        sys.exit("continuous batching drops pictures, in stock models too: leave --continuous-batching out.")
    transformers.AutoConfig.register(Config.model_type, Config)
    setattr(transformers, Model.__name__, Model)
    sys.argv.insert(1, "serve")
    main()
