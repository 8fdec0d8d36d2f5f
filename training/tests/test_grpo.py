"""TRL's GRPO, which samples with `generate`: positions of every completion are those of the full forward."""

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, Cache
from trl import GRPOConfig, GRPOTrainer

from .conftest import ROOT

QUESTIONS = ["Where is the red circle?", "Which shape is on the left?", "What is it?", "Where is the blue square?"]


@pytest.fixture(scope="module")
def dataset():
    picture = Image.open(ROOT / "examples" / "shapes.png").convert("RGB")
    rows = [
        {
            "prompt": [{"role": "user", "content": question}],
            "images": [picture.rotate(90 * number)] * (1 + number % 2),
        }
        for number, question in enumerate(QUESTIONS)
    ]
    return Dataset.from_list(rows)


def rewards(completions, **kwargs):
    """Unequal within every group, so that there is something to learn."""
    return [float(index % 3) for index in range(len(completions))]


def test_a_few_steps_whose_samples_continue_exactly(dataset, tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(ROOT, trust_remote_code=True, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(ROOT, trust_remote_code=True)
    sampled = []

    def record(module, args, kwargs, output):
        # During `generate` the model sees positions with the text row in front, and a cache, whatever it is called.
        if not torch.is_grad_enabled() and any(isinstance(value, Cache) for value in kwargs.values()):
            sampled.append((kwargs["position_ids"].shape[-1], kwargs["position_ids"][-6:].clone()))

    generate, runs = model.generate, []

    def watched(*args, **kwargs):
        sampled.clear()
        output = generate(*args, **kwargs)
        runs.append((list(sampled), output, kwargs))
        return output

    model.generate = watched
    model.model.language_model.register_forward_hook(record, with_kwargs=True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    arguments = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=12,
        learning_rate=1e-4,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
    )
    trainer = GRPOTrainer(
        model=model, processing_class=processor, reward_funcs=rewards, args=arguments, train_dataset=dataset
    )
    trainer.train()

    assert any(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert len(runs) >= 3
    for steps, output, kwargs in runs:
        seen = torch.cat([positions for _, positions in steps], dim=-1)
        mask = torch.cat(
            [kwargs["attention_mask"], torch.ones_like(output[:, kwargs["attention_mask"].shape[1] :])], dim=1
        )
        expected, _ = model.model.get_rope_index(output, kwargs["image_grid_thw"], attention_mask=mask)
        real = mask[:, : seen.shape[-1]].bool()
        for row, other in zip(seen, expected[..., : seen.shape[-1]]):
            torch.testing.assert_close(row[real], other[real], rtol=0, atol=1e-4)
