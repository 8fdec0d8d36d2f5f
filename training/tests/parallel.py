"""One optimiser step on two samples, in one process or in several: logits and weights are written to a file.

torchrun --standalone --nproc-per-node 2 -m training.tests.parallel MODEL ENGINE FILE
"""

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2 as Model
from training.blocks import circle_rope_model
from training.positions import carry_positions
from training.tower import call_tower_on_every_rank

# So large an eps that rounding in a gradient is not blown up to a whole step.
OPTIMIZER = {"lr": 1e-3, "eps": 1e-3, "weight_decay": 0.01}


def samples(folder):
    """Two samples of different lengths and pictures, with every text token learned."""
    torch.manual_seed(0)
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    made = []
    for texts, grid in (((7, 9), [1, 8, 12]), ((3, 6), [1, 4, 8])):
        before, after = (torch.randint(10, 300, (length,)) for length in texts)
        vision = [config.vision_start_token_id] + [config.image_token_id] * (grid[1] * grid[2] // 4)
        ids = torch.cat([before, torch.tensor(vision), after])[None]
        labels = torch.where(ids < 300, ids, -100)
        pixels = torch.randn(grid[1] * grid[2], 3 * 2 * 14 * 14)
        made.append(
            {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "labels": labels,
                "pixel_values": pixels,
                "image_grid_thw": torch.tensor([grid]),
            }
        )
    return made


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def other_logits(model, batch):
    """After the step, under another block, found as annealing finds the model."""
    circle_rope_model(model).set_circle_rope({"radius": 3, "AGE_mode": "strategy_3"})
    return model(**batch).logits


def step_alone(model, batches):
    """What data-parallel ranks do together: the mean of the samples' losses."""
    optimizer = torch.optim.AdamW(model.parameters(), **OPTIMIZER)
    logits = []
    for batch in batches:
        output = model(**batch)
        (output.loss / len(batches)).backward()
        logits.append(output.logits.detach())
    optimizer.step()
    state = model.state_dict()
    return logits + [other_logits(model, batch) for batch in batches], state


def run_single(folder, batches):
    return step_alone(Model.from_pretrained(folder), batches)


def run_tp(folder, batches):
    model = Model.from_pretrained(folder, tp_plan="auto")
    sharded = sum(isinstance(parameter, DTensor) for parameter in model.parameters())
    assert sharded, "nothing was sharded"
    logits, state = step_alone(model, batches)
    return [whole(part) for part in logits], {name: whole(tensor) for name, tensor in state.items()}


def fsdp_accelerator(**precision):
    """Accelerate switches FSDP on for accelerators alone; here by hand, and all that follows is its own."""
    from accelerate import Accelerator, FullyShardedDataParallelPlugin
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    accelerator = Accelerator(cpu=True)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False, **precision
    )
    AcceleratorState().fsdp_plugin = plugin
    for shared in (AcceleratorState._shared_state, PartialState._shared_state):
        shared["distributed_type"] = DistributedType.FSDP
    return accelerator


def gather_samples(logits):
    """Every rank's logits, in the order of the ranks."""
    gathered = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, logits)
    return gathered


def run_fsdp2(folder, batches):
    accelerator = fsdp_accelerator()
    model = Model.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), **OPTIMIZER)
    model, optimizer = accelerator.prepare(model, optimizer)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    output = model(**batches[accelerator.process_index])
    accelerator.backward(output.loss)
    optimizer.step()
    state = {name: whole(tensor) for name, tensor in model.state_dict().items()}
    batch = batches[accelerator.process_index]
    return gather_samples(output.logits.detach()) + gather_samples(other_logits(model, batch)), state


def run_fsdp2_bf16(folder, batches):
    """With inputs cast and not, and positions made inside and passed: logits, and the positions that cos/sin are of.

    Where the model refuses, the sentence.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy

    results = {}
    for casts in (True, False):
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, cast_forward_inputs=casts)
        accelerator = fsdp_accelerator(mixed_precision_policy=policy)
        model = Model.from_pretrained(folder).eval()
        model, _ = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), **OPTIMIZER))
        batch = {name: value for name, value in batches[accelerator.process_index].items() if name != "labels"}
        positions, _ = model.model.get_rope_index(batch["input_ids"], batch["image_grid_thw"])
        used = []
        model.model.language_model.rotary_emb.register_forward_pre_hook(lambda _, inputs: used.append(inputs[1]))  # noqa: B023
        for way, passed in (
            ("inside", {}),
            ("passed", {"position_ids": positions}),
            ("carried", {"position_ids": positions}),
        ):
            used.clear()
            if way == "carried":
                carry_positions(model)
            try:
                with torch.no_grad():
                    logits = model(**batch, **passed).logits
                rows = torch.cat([part for part in used if part.is_floating_point()])
                results[casts, way] = gather_samples((logits, rows, positions))
            except ValueError as error:
                results[casts, way] = str(error)
    return results, {}


def run_single_bf16(folder, batches):
    model = Model.from_pretrained(folder, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        logits = []
        for batch in batches:
            batch = {name: value for name, value in batch.items() if name != "labels"}
            logits.append(model(**batch).logits)
    return logits, {}


def run_fsdp2_mixed(folder, batches):
    """A rank without a picture beside one that has one: their losses, and what those were before sharding.

    A checkpoint without a block is trained by stock's class.
    """
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    is_stock = AutoConfig.from_pretrained(folder, trust_remote_code=True).model_type == "qwen2_5_vl"
    accelerator = fsdp_accelerator()
    model = (Qwen2_5_VLForConditionalGeneration if is_stock else Model).from_pretrained(folder)
    batch = batches[accelerator.process_index]
    if accelerator.process_index == 1:
        keep = batch["labels"][0] >= 0
        batch = {key: batch[key][:, keep] for key in ("input_ids", "attention_mask", "labels")}
    before = model(**batch).loss.detach()
    if not is_stock:
        call_tower_on_every_rank(model)
    model, _ = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), **OPTIMIZER))
    loss = model(**batch).loss
    accelerator.backward(loss)
    return gather_samples((loss.detach(), before)), {}


def run_zero3(folder, batches):
    import deepspeed
    from transformers.integrations import HfDeepSpeedConfig

    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 0.0,
    }
    kept = HfDeepSpeedConfig(config)  # from_pretrained shards while it loads
    deepspeed.init_distributed("gloo")
    model = Model.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), **OPTIMIZER)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    assert kept.is_zero3()
    output = engine(**batches[dist.get_rank()])
    engine.backward(output.loss)
    engine.step()
    state = {}
    for name, parameter in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters(parameter):
            state[name] = parameter.detach().clone()
    after = other_logits(engine, batches[dist.get_rank()])
    return gather_samples(output.logits.detach()) + gather_samples(after), state


def main():
    folder, engine, file = sys.argv[1:]
    logits, state = globals()[f"run_{engine}"](folder, samples(folder))
    if int(os.environ.get("RANK", 0)) == 0:
        torch.save({"logits": logits, "state": state}, file)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
