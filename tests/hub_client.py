"""A machine that knows no Hub but the small one: its environment, and a process there that loads a model and asks."""

import os
import subprocess

from tests import warm_python
from tests.models import ROOT

NAME = "user/circle"

ASK = """
import sys
from PIL import Image
import transformers
from transformers import AutoProcessor
name, pins = sys.argv[1], dict(part.split("=") for part in sys.argv[3:])
auto_class = getattr(transformers, "AutoModelForVision2Seq", None) or transformers.AutoModelForImageTextToText
model = auto_class.from_pretrained(name, trust_remote_code=True, **pins)
pins.pop("code_revision", None)
processor = AutoProcessor.from_pretrained(name, trust_remote_code=True, **pins)
content = [{"type": "image", "image": Image.open(sys.argv[2])}, {"type": "text", "text": "Where is the red circle?"}]
inputs = processor.apply_chat_template(
    [{"role": "user", "content": content}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
)
output = model.generate(**inputs, max_new_tokens=32)
print(processor.batch_decode(output[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)[0])
"""


def environment(hub, home, token="hf_owner", **variables):
    """A machine that knows no other Hub than ours, with a cache and a token of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "no_proxy": "127.0.0.1,localhost"}
    return {**kept, **own, **({"HF_TOKEN": token} if token else {}), **variables}


def ask(hub, home, *pins, lines=False):
    command = [warm_python.executable(), "-c", ASK, NAME, str(ROOT / "examples" / "shapes.png"), *pins]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(hub, home), cwd=home.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines() if lines else done.stdout.splitlines()[-1]
