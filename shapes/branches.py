"""A batch of pictures with several conversations each, which branch off behind them and do not see one another.

Each conversation attends to the pictures and itself, and takes the positions it would have alone. In one sequence,
earlier answers would give later ones away without a look at the picture.
"""

import functools
from collections.abc import Sequence

import numpy as np
import torch

VISION_END, END = "<|vision_end|>", "<|im_end|>\n"
USER, TURN = "<|im_start|>user\n", "<|im_start|>assistant\n"


def make_turn(question: str, answer: str, media: Sequence[str] = ()) -> list[dict]:
    """A question, with `"image"` or `"video"` for each that comes with it, and its answer, as chat messages."""
    content = [*({"type": kind} for kind in media), {"type": "text", "text": question}]
    return [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
    ]


def make_batch(
    model,
    processor,
    media: list[list],
    conversations: list[list[list[dict]]],
    fps: list[float] | None = None,
    longest: int | None = None,
) -> dict:
    """The arguments of the model's forward; only answers are labelled.

    Args:
        model: a Circle-RoPE model.
        processor: its processor.
        media: for every sample its PIL pictures and its videos (lists of pictures).
        conversations: for every sample one or more conversations of chat messages, which are alike up to the last
            picture or video.
        fps: for every sample the frames a second of its videos; 2 if not given.
        longest: leave out conversations, but for a sample's first, with which it would be more tokens than these.
    """
    device = model.device
    split = [[_split(processor, messages) for messages in several] for several in conversations]
    trunks = [branches[0][0] for branches in split]
    batch = process(processor, trunks, media, fps, padding=True, padding_side="right").to(device)
    trunk_ids, trunk_mask = batch["input_ids"], batch["attention_mask"]
    vision = {key: batch[key] for key in batch if key.endswith(("_thw", "_ts"))}
    position_ids, rope_deltas = model.model.get_rope_index(trunk_ids, **vision, attention_mask=trunk_mask)
    ends = rope_deltas + trunk_ids.shape[1]

    rows = []
    for row, branches in enumerate(split):
        length = int(trunk_mask[row].sum())
        labels = torch.full((length,), -100)
        ids, of_branch, places = [trunk_ids[row, :length].cpu()], [torch.full((length,), -1)], []
        for number, (_, branch, learned) in enumerate(branches):
            if longest and number and len(labels) + len(branch) > longest:
                continue
            ids.append(torch.tensor(branch))
            labels = torch.cat([labels, torch.where(torch.tensor(learned), ids[-1], -100)])
            of_branch.append(torch.full((len(branch),), number))
            places.append(torch.arange(len(branch)))
        places = torch.cat(places).to(device)
        behind = (ends[row][:, None] + places).repeat_interleave(3, dim=0)
        rows.append(
            (torch.cat(ids), labels, torch.cat(of_branch), torch.cat([position_ids[:, row, :length], behind], 1))
        )
    width = max(len(ids) for ids, *_ in rows)
    input_ids, labels, of_branch, positions = (
        torch.stack([torch.nn.functional.pad(row[part], (0, width - row[0].shape[0]), value=value) for row in rows])
        for part, value in enumerate((processor.tokenizer.pad_token_id, -100, -2, 0.0))
    )
    of_branch = of_branch.to(device)
    sees = (of_branch[:, None, :] == -1) | (of_branch[:, None, :] == of_branch[:, :, None])
    return {
        **{key: batch[key] for key in batch if key.startswith("pixel_values") or key in vision},
        "input_ids": input_ids.to(device),
        "labels": labels.to(device),
        "position_ids": positions.transpose(0, 1),
        "attention_mask": sees.tril()[:, None],
    }


def process(processor, texts: list[str], media: list[list], fps: list[float] | None = None, **arguments):
    """The processor's tensors of texts with their pictures and videos; `media` and `fps` as for `make_batch`."""
    images = [item for items in media for item in items if not isinstance(item, list)]
    rates = fps or [2.0] * len(media)
    videos = [(item, rate) for items, rate in zip(media, rates) for item in items if isinstance(item, list)]
    if images:
        arguments["images"] = images
    if videos:
        arguments |= {
            "videos": [np.stack([np.asarray(frame) for frame in frames]) for frames, _ in videos],
            "do_sample_frames": False,
            "video_metadata": [
                {"fps": rate, "total_num_frames": len(frames), "frames_indices": list(range(len(frames)))}
                for frames, rate in videos
            ],
        }
    return processor(text=texts, return_tensors="pt", **arguments)


def _split(processor, messages):
    """Text up to the last picture (or the first question), then token ids, and which of them are of an answer."""
    text = processor.apply_chat_template(messages, tokenize=False)
    has_vision = VISION_END in text
    trunk, mark, branch = text.rpartition(VISION_END) if has_vision else text.partition(USER)
    ids, learned = [], []
    for number, piece in enumerate(branch.split(TURN)):
        # Behind the first, an answer up to its end, then the next question.
        answer, end, question = piece.partition(END) if number else ("", "", piece)
        is_last = not question
        for text, is_answer in ((answer + end, True), (question if is_last else question + TURN, False)):
            encoded = _encode(processor, text)
            ids += encoded
            learned += [is_answer] * len(encoded)
    return trunk + mark, ids, learned


@functools.lru_cache(maxsize=100_000)
def _encode(processor, text):
    return processor.tokenizer.encode(text) if text else []
