"""An external plugin for ms-swift that writes down the positions that reach the text model.

For every forward of training a file in the folder RECORD_POSITIONS, with the tokens and grids that the template handed
over and the position_ids that the text model received.
"""

import itertools
import os
from pathlib import Path

import torch
from swift.template.templates.qwen import Qwen2_5VLTemplate as Template

from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLTextModel_CircleRoPE_V2 as TextModel

folder = Path(os.environ.get("RECORD_POSITIONS", ""))
numbers = itertools.count()
handed_over = {}


def post_encode(self, model, inputs):
    handed_over.update({key: value.clone() for key, value in inputs.items() if torch.is_tensor(value)})
    return upstream_post_encode(self, model, inputs)


def forward(self, *args, position_ids=None, **kwargs):
    if handed_over:
        keys = ("input_ids", "attention_mask", "image_grid_thw", "cu_seq_lens_q")
        record = {key: handed_over.get(key) for key in keys}
        record |= {"position_ids": position_ids.detach().clone(), "geometries": self.num_geometries}
        torch.save(record, folder / f"{next(numbers)}.pt")
        handed_over.clear()
    return upstream_forward(self, *args, position_ids=position_ids, **kwargs)


upstream_post_encode, upstream_forward = Template._post_encode, TextModel.forward
if "RECORD_POSITIONS" in os.environ:  # ms-swift loads a checkpoint's plugins again when it infers
    folder.mkdir(parents=True, exist_ok=True)
    Template._post_encode, TextModel.forward = post_encode, forward
