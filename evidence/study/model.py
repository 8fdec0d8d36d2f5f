"""The study's model under an arm: random text layers, a frozen vision tower, and how it is optimised."""

import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from circle_rope_imp import MRopeGeometry
from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
from evidence.geometry import FlattenedGeometry
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
from shapes.checkpoint import model_config, save_processor
from shapes.muon import Muon

from . import tower
from .arms import ARMS, LAYERS, TASKS, Run, tower_path
from .boards import CELL
from .sections import interleave, section_sizes


class StudyConfig(Qwen2_5_VLConfig_CircleRoPE_V2):
    """A config whose ring may be a layout that is none of the block's options, and whose pictures may begin at 0."""

    layout: FlattenedGeometry | MRopeGeometry | None = None
    reset: bool = False

    def make_geometry(self, name):
        made = super().make_geometry(name)
        return replace(self.layout, image_stride=made.image_stride) if name == "circle" and self.layout else made


def make_model(run: Run, scales: dict, work: Path):
    """The run's model with random weights by its seed and the tower of its task; and its processor."""
    scale, arm, task = scales[run.scale], ARMS[run.trained.arm], TASKS[run.trained.what]
    with tempfile.TemporaryDirectory() as folder:
        pixels = {"patch_size": scale.patch_size, "min_pixels": 1, "max_pixels": 10**6}
        processor = save_processor(Path(folder), list(task.sentences()), **pixels)
    dimensions = model_config(processor, arm.block)
    sizes = section_sizes(arm.sections, scale.mrope_section)
    dimensions["text_config"].update(
        hidden_size=scale.hidden,
        intermediate_size=3 * scale.hidden,
        num_hidden_layers=LAYERS,
        num_attention_heads=scale.heads,
        num_key_value_heads=1,
        rope_theta=scale.rope_theta,
        rope_scaling={"type": "mrope", "mrope_section": list(sizes)},
    )
    dimensions["vision_config"].update(
        depth=2,
        hidden_size=64,
        intermediate_size=128,
        num_heads=2,
        out_hidden_size=scale.hidden,
        patch_size=scale.patch_size,
        fullatt_block_indexes=[],
        window_size=CELL,
    )
    config = StudyConfig(**dimensions)
    config.layout, config.reset = arm.layout, arm.reset
    torch.manual_seed(run.seed)
    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config)
    if arm.sections == "interleaved":
        interleave(model.model.language_model.rotary_emb, sizes)
    tower.prepare(model, processor, task, scale, tower_path(run, scales, work))
    return model, processor


def make_optimizers(model, learning_rate: float, fine_tuning: bool = False) -> list:
    """Muon for the layers' matrices, in half as many steps, and AdamW for the rest; AdamW for all in fine-tuning."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    matrices = [parameter for name, parameter in trained if ".layers." in name and parameter.ndim == 2]
    others = [parameter for name, parameter in trained if not (".layers." in name and parameter.ndim == 2)]
    adamw = functools.partial(torch.optim.AdamW, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    if fine_tuning:
        return [adamw(matrices + others)]
    return [Muon(matrices, lr=5 * learning_rate), adamw(others)]
