"""A batch of pictures with several questions each, which branch off behind the pictures and do not see one another.

Each question attends to its pictures and itself, and takes the positions it would have alone. In one conversation,
earlier answers would give later ones away without a look at the picture. All are filled up to the length of the
longest, so that they stand one below the other when a batch behind its pictures is cut into questions.
"""

import functools

import torch


def make_batch(model, processor, pictures: list[tuple], questions: list[list[tuple[str, str]]]) -> dict:
    """The arguments of the model's forward; only answers are labelled.

    Args:
        model: a Circle-RoPE model.
        processor: its processor.
        pictures: for every example the same number of PIL pictures, all of one size.
        questions: for every example the same number of (question, answer) pairs.
    """
    branches = [_encode(processor, len(pictures[0]), *pair) for pairs in questions for pair in pairs]
    count, size = len(questions[0]), len(pictures)
    batch = processor(
        text=[branches[0][0]] * size, images=[each for some in pictures for each in some], return_tensors="pt"
    )
    picture = {key: batch[key].to(model.device) for key in ("pixel_values", "image_grid_thw")}
    prefix_ids = batch["input_ids"].to(model.device)
    position_ids, rope_deltas = model.model.get_rope_index(prefix_ids, picture["image_grid_thw"])
    if model.config.reset:  # h and w begin at 0 in every picture; all examples have theirs in the same slots
        is_image = prefix_ids[0] == model.config.image_token_id
        position_ids[1:, :, is_image] -= position_ids[0, :, is_image]
    length = prefix_ids.shape[1]
    longest = max(len(prompt) + len(answer) for _, prompt, answer in branches)
    input_ids = torch.full((len(branches), longest), processor.tokenizer.pad_token_id)
    labels = torch.full_like(input_ids, -100)
    for row, (_, prompt, answer) in enumerate(branches):
        input_ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)

    in_branch = torch.arange(longest, device=model.device).repeat(count)
    branch_positions = (rope_deltas.T[:, :, None] + length + in_branch).repeat_interleave(3, dim=0)
    branch_of = torch.arange(count, device=model.device).repeat_interleave(longest)
    branch_of = torch.cat([branch_of.new_full((length,), -1), branch_of])
    sees = (branch_of[None, :] == -1) | (branch_of[None, :] == branch_of[:, None])
    return {
        **picture,
        "input_ids": torch.cat([prefix_ids, input_ids.view(size, -1).to(model.device)], dim=1),
        "labels": torch.cat([torch.full_like(prefix_ids, -100), labels.view(size, -1).to(model.device)], dim=1),
        "position_ids": torch.cat([position_ids, branch_positions], dim=-1),
        "attention_mask": sees.tril().expand(size, 1, -1, -1),
    }


def prefix_length(model, batch: dict) -> int:
    """How many tokens stand before the questions."""
    return (batch["input_ids"][0] == model.config.vision_end_token_id).nonzero()[-1].item() + 1


@functools.lru_cache(maxsize=10_000)
def _encode(processor, pictures, question, answer):
    """Text up to the end of the pictures, and the token ids of the prompt behind them and of the answer."""
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": question}]
    messages = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
    ]
    text = processor.apply_chat_template(messages, tokenize=False)
    prefix, vision_end, branch = text.rpartition("<|vision_end|>")
    prompt, opening, learned = branch.rpartition("<|im_start|>assistant\n")
    return prefix + vision_end, *(processor.tokenizer.encode(part) for part in (prompt + opening, learned))
