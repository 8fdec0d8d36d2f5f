"""Which class a checkpoint needs, so that a harness loads it with its own geometry and never as stock unnoticed."""

from dataclasses import dataclass
from pathlib import Path

import transformers
from transformers import AutoConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
from conversion.base import ADAPTER_CONFIG, ConversionError, fetch, in_one_sentence, read_json
from conversion.convert import MODEL_TYPES, has_block, is_saved_by_stock
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2

# Tokenizers and processors look at the config too; so they find it here, and run no code of the checkpoint.
AutoConfig.register(Qwen2_5_VLConfig_CircleRoPE_V2.model_type, Qwen2_5_VLConfig_CircleRoPE_V2, exist_ok=True)


class EvaluationError(ValueError):
    """Something about the input that the user can put right; its text is one sentence."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint and how it is loaded: `schedule` has the geometry, circle or mrope, of every layer.

    It stands where a harness has stock's class, since it has that one's `from_pretrained`.
    """

    name: str
    directory: Path
    model_class: type
    schedule: tuple[str, ...]
    block: dict | None

    @property
    def label(self) -> str:
        """Its last name: of the folder, or of the repository on the Hub."""
        return Path(self.name).resolve().name if Path(self.name).is_dir() else self.name.split("/")[-1]

    def describe(self) -> str:
        """The two lines that a run begins with."""
        return (
            f"class: {self.model_class.__name__} (transformers {transformers.__version__})\n"
            f"geometry per layer: {' '.join(self.schedule)}"
        )

    def from_pretrained(self, *_, **kwargs):
        """The model, with the arguments that the harness gives.

        Raises:
            EvaluationError: it does not run with the class and the geometries that were announced.
        """
        model = self.model_class.from_pretrained(self.directory, **kwargs)
        running = getattr(model.model, "schedule", ("mrope",) * model.config.get_text_config().num_hidden_layers)
        if type(model) is not self.model_class or tuple(running) != self.schedule:
            raise EvaluationError(
                f"{self.name} runs as {type(model).__name__} with the layers {' '.join(running)}, and not as "
                "announced: report this as a fault."
            )
        return model


def find(name: str) -> Checkpoint:
    """The checkpoint of a directory or hub id.

    Raises:
        EvaluationError: it is neither Qwen2.5-VL nor Circle-RoPE, or it does not say which.
    """
    try:
        directory = fetch(name, patterns=())
        if (directory / ADAPTER_CONFIG).is_file() and not (directory / "config.json").is_file():
            raise EvaluationError(
                f"{name} is an adapter without a config.json that says its geometry: give a folder that this repo's "
                "training wrote, or merge it."
            )
        config = read_json(directory / "config.json")
        if config.get("model_type") not in MODEL_TYPES:
            raise EvaluationError(
                f"{name} is a {config.get('model_type')!r} model, but only Qwen2.5-VL (qwen2_5_vl) and Circle-RoPE "
                "checkpoints can be evaluated here."
            )
        if is_saved_by_stock(config):
            raise EvaluationError(
                f"{name} was saved by stock's class, which keeps a circle_rope block but computes M-RoPE in every "
                "layer: convert it anew with push_to_hub.py, so that it says which of the two it was trained with."
            )
        loaded, block = _read_config(name, directory, config)
        directory = fetch(name)
    except ConversionError as error:
        raise EvaluationError(str(error)) from None
    if block is None:
        layers = loaded.get_text_config().num_hidden_layers
        return Checkpoint(name, directory, Qwen2_5_VLForConditionalGeneration, ("mrope",) * layers, None)
    ours = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
    return Checkpoint(name, directory, ours, tuple(loaded.schedule), block)


def _read_config(name, directory, config):
    config_class = Qwen2_5_VLConfig_CircleRoPE_V2 if has_block(config) else Qwen2_5_VLConfig
    with in_one_sentence(f"{name} has a config.json that cannot be read"):
        loaded = config_class.from_pretrained(directory)
    return loaded, getattr(loaded, "circle_rope", None)
