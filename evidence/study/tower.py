"""The study's vision tower: trained once per scale and task to tell what lies in each cell, then frozen.

It learns without a text model, and each of its windows sees one board cell, so that it favours no geometry and
cannot tell where a token lies: that, the text model has from its positions alone. The paper, too, freezes the tower
and the projector.
"""

import math
import os
import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from .boards import make_example

# Tokens come out about as large as the text model expects, whose embeddings are about 0.1.
FEATURE_SCALE = 0.1


def prepare(model, processor, task, scale, path: Path) -> None:
    """Give the model the frozen tower in the file, which is made where it is not there yet."""
    tower = model.model.visual
    if not path.exists():
        _train(tower, processor, task, scale)
        # Two runs may do it at the same time, and write the same.
        unfinished = path.with_suffix(f".{os.getpid()}")
        save_file(tower.state_dict(), unfinished)
        unfinished.replace(path)
    tower.load_state_dict(load_file(path))
    tower.requires_grad_(False)


def _train(tower, processor, task, scale):
    rng, board, steps = random.Random(0), task.TOWER_BOARD, task.TOWER_STEPS * scale.tower_steps
    torch.manual_seed(0)
    head = nn.Linear(scale.hidden, 1 + len(task.CONTENTS))
    for module in (*tower.modules(), head):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
    optimizer = torch.optim.AdamW([*tower.parameters(), *head.parameters()])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for step in range(1, steps + 1):
        examples = [make_example(task, rng, board, held_out=False) for _ in range(scale.batch)]
        pictures = [picture for example in examples for picture in task.draw(example)]
        scenes = [scene for example in examples for scene in example.scenes]
        inputs = processor.image_processor(pictures, return_tensors="pt")
        features = tower(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
        found = head(features)
        wanted = torch.cat([_contents(scene, board, task, scale.cell_tokens) for scene in scenes])
        loss = nn.functional.cross_entropy(found, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            things = wanted > 0
            right = (found.argmax(-1) == wanted)[things].float().mean()
            print(f"tower: step {step}/{steps}  loss {loss.item():.3f}  right {right:.1%}", flush=True)
    with torch.no_grad():
        for parameter in tower.merger.mlp[-1].parameters():
            parameter.mul_(FEATURE_SCALE)


def _contents(scene, board, task, cell_tokens):
    """What every token of the scene shows: 0 for nothing, else the number of the thing."""
    cells = torch.zeros(board.height, board.width, dtype=torch.long)
    for thing in scene:
        cells[divmod(thing.cell, board.width)] = 1 + task.CONTENTS.index(thing.name)
    return cells.repeat_interleave(cell_tokens, 0).repeat_interleave(cell_tokens, 1).flatten()
