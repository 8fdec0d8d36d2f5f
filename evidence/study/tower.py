"""The study's vision tower: trained once per scale to tell what lies in each cell, then frozen for every run.

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

from shapes.pictures import COLOURS, SHAPES

from . import task

BOARD = task.Board(3, 3, 4, 6)
# Tokens come out about as large as the text model expects, whose embeddings are about 0.1.
FEATURE_SCALE = 0.1


def prepare(model, processor, scale, work: Path) -> None:
    """Give the model the scale's frozen tower, from `work` where it has been trained before."""
    path = work / "tower.safetensors"
    tower = model.model.visual
    if not path.exists():
        _train(tower, processor, scale)
        # Two runs may do it at the same time, and write the same.
        unfinished = path.with_suffix(f".{os.getpid()}")
        save_file(tower.state_dict(), unfinished)
        unfinished.replace(path)
    tower.load_state_dict(load_file(path))
    tower.requires_grad_(False)


def _train(tower, processor, scale):
    rng = random.Random(0)
    head = nn.Linear(scale.hidden, 1 + len(SHAPES) * len(COLOURS))
    for module in (*tower.modules(), head):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
    optimizer = torch.optim.AdamW([*tower.parameters(), *head.parameters()])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=scale.tower_steps)
    for step in range(1, scale.tower_steps + 1):
        scenes = [task.make_scene(rng, BOARD) for _ in range(scale.batch)]
        inputs = processor.image_processor([task.draw(scene, BOARD, rng) for scene in scenes], return_tensors="pt")
        features = tower(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
        found = head(features)
        wanted = torch.cat([_contents(scene, scale.cell_tokens) for scene in scenes])
        loss = nn.functional.cross_entropy(found, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == scale.tower_steps:
            right = (found.argmax(-1) == wanted).float().mean()
            print(f"tower: step {step}/{scale.tower_steps}  loss {loss.item():.3f}  right {right:.1%}", flush=True)
    with torch.no_grad():
        for parameter in tower.merger.mlp[-1].parameters():
            parameter.mul_(FEATURE_SCALE)


def _contents(scene, cell_tokens):
    """What every token of the scene shows: 0 for nothing, else a number for shape and colour."""
    cells = torch.zeros(BOARD.height, BOARD.width, dtype=torch.long)
    for thing in scene:
        number = 1 + SHAPES.index(thing.shape) * len(COLOURS) + list(COLOURS).index(thing.colour)
        cells[divmod(thing.cell, BOARD.width)] = number
    return cells.repeat_interleave(cell_tokens, 0).repeat_interleave(cell_tokens, 1).flatten()
