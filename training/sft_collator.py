"""Examples into batches for TRL: pictures and videos are read as they are needed, and only answers are learned."""

from dataclasses import dataclass
from functools import partial
from io import BytesIO
from os.path import commonprefix

import av
import fsspec
import PIL.Image
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import ProcessorMixin
from transformers.video_utils import VideoMetadata, read_video_pyav

FRAMES_PER_SECOND = 2.0  # what Qwen2.5-VL was trained with, and ms-swift samples
VISION_INPUTS = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")


@dataclass
class Collator:
    """Batches of the examples that `sft_examples.load_examples` gives, padded on the right.

    Attributes:
        processor: the checkpoint's.
        max_length: tokens that are kept of an example; None means all.
        answers_only: whether the labels of the prompt are -100.
        pad_to_multiple_of: of the length of a batch.
        pad_token: None means the tokenizer's.
    """

    processor: ProcessorMixin
    max_length: int | None = None
    answers_only: bool = True
    pad_to_multiple_of: int | None = None
    pad_token: str | None = None

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        """int64 `input_ids`, `labels` and `attention_mask` `(batch, seq)`, and what the vision tower takes."""
        samples = [self.encode(example) for example in examples]
        tokenizer = self.processor.tokenizer
        pad = tokenizer.convert_tokens_to_ids(self.pad_token or tokenizer.pad_token)
        fill = {"input_ids": pad, "labels": -100, "attention_mask": 0}
        multiple = self.pad_to_multiple_of or 1
        batch = {}
        for key, value in fill.items():
            rows = pad_sequence([sample[key] for sample in samples], batch_first=True, padding_value=value)
            batch[key] = torch.nn.functional.pad(rows, (0, -rows.shape[1] % multiple), value=value)
        for key in (*VISION_INPUTS, "second_per_grid_ts"):
            if given := [sample[key] for sample in samples if key in sample]:
                batch[key] = torch.cat(given)
        return batch

    def encode(self, example: dict) -> dict[str, torch.Tensor]:
        """One example without a batch dimension; its pictures are decoded, its videos are not."""
        prompt, answer = self.texts(example)
        videos = [self.read_video(video) for video in example["videos"]]
        media = {"images": example["images"]} if example["images"] else {}
        if videos:
            media["videos"] = [frames for frames, _ in videos]
            media |= {"video_metadata": [metadata for _, metadata in videos], "do_sample_frames": False}
        encoded = self.processor(text=[prompt], **media, return_tensors="pt", add_special_tokens=False)
        prompt_ids, answer_ids = encoded["input_ids"][0], torch.tensor(self.tokens(answer), dtype=torch.long)
        input_ids = torch.cat([prompt_ids, answer_ids])[: self.max_length]
        labels = input_ids.clone()
        if self.answers_only:
            labels[: len(prompt_ids)] = -100
        sample = {"input_ids": input_ids, "labels": labels, "attention_mask": torch.ones_like(input_ids)}
        if videos:
            patch = self.processor.video_processor.temporal_patch_size
            seconds = [patch * metadata.total_num_frames / metadata.fps / len(frames) for frames, metadata in videos]
            sample["second_per_grid_ts"] = torch.tensor(seconds)
        return sample | {key: encoded[key] for key in VISION_INPUTS if key in encoded}

    def texts(self, example: dict) -> tuple[str, str]:
        """The prompt and the answer as the chat template writes them."""
        write = partial(self.processor.apply_chat_template, tokenize=False)
        prompt = write(example["prompt"], add_generation_prompt=True)
        whole = write(example["prompt"] + example["completion"])
        prompt = commonprefix([prompt, whole])
        return prompt, whole[len(prompt) :]

    def tokens(self, text: str) -> list[int]:
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def read_video(self, video: dict):
        """Frames uint8 `(frames, height, width, 3)` at `FRAMES_PER_SECOND`, and upstream's `VideoMetadata`."""
        sample = partial(self.processor.video_processor.sample_frames, fps=FRAMES_PER_SECOND)
        with open_file(video) as file:
            return read_video_pyav(file, sample)

    def measure(self, example: dict, name: str) -> dict[str, int]:
        """The example's `length` in tokens, from the headers of its pictures and videos, which are not decoded.

        Raises:
            ValueError: a picture or video that cannot be read, or one that `max_length` cuts, or an answer that it
                leaves nothing of; `name` is what to call the row.
        """
        sizes = {
            self.processor.image_token_id: iter([self.image_tokens(image, name) for image in example["images"]]),
            self.processor.video_token_id: iter([self.video_tokens(video, name) for video in example["videos"]]),
        }
        prompt, answer = self.texts(example)
        length = vision_end = 0
        for token in self.tokens(prompt):
            length += next(sizes[token], 1) if token in sizes else 1
            if token in sizes:
                vision_end = length
        if self.max_length is not None and vision_end > self.max_length:
            raise ValueError(
                f"{name} has a picture or video that ends at token {vision_end}, but --max_length {self.max_length} "
                "cuts it: raise --max_length, lower --max_pixels, or leave the row out."
            )
        if self.max_length is not None and self.answers_only and length >= self.max_length:
            raise ValueError(
                f"{name} has an answer that begins at token {length}, but --max_length {self.max_length} leaves "
                "nothing of it: raise --max_length, or leave the row out."
            )
        return {"length": length + len(self.tokens(answer))}

    def image_tokens(self, image: dict, name: str) -> int:
        try:
            with open_file(image) as file, PIL.Image.open(file) as picture:
                width, height = picture.size
        except (OSError, ValueError) as error:
            raise ValueError(f"{name} has the image {image['path']}, which cannot be read: {error}.") from None
        processor = self.processor.image_processor
        return processor.get_number_of_image_patches(height, width, {}) // processor.merge_size**2

    def video_tokens(self, video: dict, name: str) -> int:
        processor = self.processor.video_processor
        try:
            with open_file(video) as file, av.open(file) as container:
                stream = container.streams.video[0]
                header = VideoMetadata(total_num_frames=stream.frames, fps=float(stream.average_rate))
                frames = len(processor.sample_frames(header, fps=FRAMES_PER_SECOND))
        except (OSError, ValueError, IndexError, TypeError) as error:
            raise ValueError(f"{name} has the video {video['path']}, which cannot be read: {error}.") from None
        return processor.get_num_of_video_patches(frames, stream.height, stream.width, {}) // processor.merge_size**2


def open_file(item: dict):
    """A picture or video, from where `datasets` has it: bytes, or a path here or on the web."""
    return BytesIO(item["bytes"]) if item.get("bytes") else fsspec.open(item["path"], "rb")
