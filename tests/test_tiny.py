"""The tiny checkpoint: it answers, through the processor, the pipeline and the example's command."""

import contextlib
import functools
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import time

import pytest
import torch
from transformers import pipeline

from shapes.evaluate import ask, load, measure
from shapes.lessons import LAYOUTS
from shapes.pictures import draw, is_held_out, make_questions, make_scene
from tests.models import CHECKPOINT, ROOT


@pytest.fixture(scope="module")
def tiny():
    return load(str(ROOT))


def held_out(count, seed):
    rng = random.Random(seed)
    scenes = [make_scene(rng, held_out=True) for _ in range(count)]
    return scenes, [draw(scene, rng) for scene in scenes], rng


def test_it_answers_about_pictures_it_never_saw(tiny):
    scenes, pictures, rng = held_out(100, seed=99)
    questions, answers = zip(*(make_questions(scene, rng, 1)[0] for scene in scenes))
    given = ask(*tiny, pictures, questions)
    assert sum(a == b for a, b in zip(given, answers)) >= 92


LEAST = dict.fromkeys(LAYOUTS, 0.92) | dict.fromkeys(["2x2", "3x3", "photo", "no picture"], 0.96)


@pytest.mark.parametrize("layout", LEAST)
def test_it_holds_conversations_about_what_it_never_saw(layout, tiny):
    """Four turns each, with its own answers as history; shapes/README.md has the shares of 1,000."""
    shares = measure(*tiny, layout, scenes=60, batch_size=30, seed=99)
    assert shares["all"] >= LEAST[layout]


def test_held_out_scenes_are_never_drawn_for_training():
    rng = random.Random(1)
    assert not any(is_held_out(make_scene(rng, held_out=False, fewest=1)) for _ in range(500))


def test_it_fits_a_repository():
    files = [ROOT / name for name in CHECKPOINT]
    assert sum(path.stat().st_size for path in files) <= 10e6
    assert not any(path.suffix in {".bin", ".pt", ".pkl"} for path in files)


def test_the_chat_template_is_qwens(tiny):
    processor = tiny[1]
    conversation = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "left"}]},
        {"role": "user", "content": "And now?"},
    ]
    assert processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Where?<|im_end|>\n"
        "<|im_start|>assistant\nleft<|im_end|>\n"
        "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_tokens_round_trip(tiny):
    tokenizer = tiny[1].tokenizer
    for words in ("Where is the red circle?", "Wo ist der Kreis? 圆在哪里？", "  two  spaces\n\n"):
        assert tokenizer.decode(tokenizer(words)["input_ids"]) == words


@torch.no_grad()
def test_cached_answers_equal_the_full_forward(tiny):
    """Real pictures through the real processor, in a left-padded batch."""
    model, processor = tiny
    _, pictures, _ = held_out(3, seed=5)
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for question in ("How many shapes are there?", "What is at the top left?", "Where is the red circle?")
    ]
    inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
    options = {"output_logits": True, "return_dict_in_generate": True, "do_sample": False}
    result = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, **options)
    mask = torch.cat([inputs["attention_mask"], torch.ones(3, 4, dtype=torch.long)], 1)
    inputs.pop("mm_token_type_ids", None)
    logits = model(**{**inputs, "input_ids": result.sequences, "attention_mask": mask}).logits
    for step, given in enumerate(result.logits):
        column = inputs["input_ids"].shape[1] - 1 + step
        torch.testing.assert_close(given, logits[:, column], atol=1e-4, rtol=0)


def test_the_pipeline_answers(tiny):
    model, processor = tiny
    answering = pipeline("image-text-to-text", model=model, processor=processor)
    scenes, pictures, _ = held_out(1, seed=3)
    message = {
        "role": "user",
        "content": [{"type": "image", "image": pictures[0]}, {"type": "text", "text": "How many shapes are there?"}],
    }
    result = answering(text=[message], max_new_tokens=8, return_full_text=False)
    assert result[0]["generated_text"] == str(len(scenes[0]))


def test_the_pipeline_loads_by_itself():
    answering = pipeline("image-text-to-text", model=str(ROOT), trust_remote_code=True)
    assert type(answering.model).__name__ == "Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2"


@torch.no_grad()
def test_a_conversation_goes_on_over_its_cache(tiny):
    model, processor = tiny
    scenes, pictures, rng = held_out(1, seed=8)
    messages, cache, answers = [], None, []
    for number, (question, _) in enumerate(make_questions(scenes[0], rng, 3)):
        content = ([{"type": "image"}] if number == 0 else []) + [{"type": "text", "text": question}]
        messages.append({"role": "user", "content": content})
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[text], images=pictures, return_tensors="pt")
        fresh = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        cached = model.generate(
            **inputs, max_new_tokens=12, do_sample=False, past_key_values=cache, return_dict_in_generate=True
        )
        assert torch.equal(cached.sequences, fresh)
        cache = cached.past_key_values
        answer = processor.decode(fresh[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        answers.append(answer)
    assert all(answers)


EXAMPLE = [sys.executable, "-m", "examples.ask"]


def run_example(*arguments):
    command = [*EXAMPLE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=ROOT)


class Terminal:
    """The example's command at a terminal of its own."""

    def __init__(self, *arguments):
        self.main, side = pty.openpty()
        command = [*EXAMPLE, *map(str, arguments)]
        environment = {**os.environ, "TERM": "dumb"}
        # A shell starts what it puts into the background, such as these tests, deaf to Ctrl-C.
        hear = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        self.process = subprocess.Popen(
            command,
            stdin=side,
            stdout=side,
            stderr=side,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
            preexec_fn=hear,
        )
        os.close(side)
        self.shown = ""

    def read(self, until="\n> "):
        """What is shown up to `until`, or up to the end where it is None."""
        text, deadline = "", time.monotonic() + 120
        while until is None or not text.endswith(until):
            assert time.monotonic() < deadline, self.shown
            if not select.select([self.main], [], [], 1)[0]:
                continue
            try:
                piece = os.read(self.main, 1000).decode()
            except OSError:  # Linux's way to say that the other side is closed
                piece = ""
            if not piece:
                assert until is None, self.shown
                break
            text += piece.replace("\r\n", "\n")
            self.shown += piece
        return text

    def say(self, line):
        os.write(self.main, f"{line}\n".encode())
        return self.read()

    def end(self, key="\x04"):
        """Press Ctrl-D, or another key: the exit code."""
        if key:
            os.write(self.main, key.encode())
        self.read(until=None)
        code = self.process.wait(timeout=60)
        os.close(self.main)
        assert "Traceback" not in self.shown
        return code


@pytest.fixture
def terminal():
    opened = Terminal()
    yield opened
    opened.process.kill()
    opened.process.wait()


def test_the_example_holds_a_conversation_at_a_terminal(terminal, tmp_path):
    scenes, pictures, _ = held_out(1, seed=11)
    pictures[0].save(tmp_path / "another one.png")
    assert "/picture FILE" in terminal.read()
    assert terminal.say("Where is the red circle?") == "Where is the red circle?\ntop right\n\n> "
    refused = terminal.say("/picture absent.png")
    assert "error: absent.png cannot be read as a picture" in refused
    assert "picture 2: " in terminal.say(f"/picture {tmp_path / 'another one.png'}")
    assert terminal.say(f"What colour is the {scenes[0][0].shape}?").count("\n") == 3
    assert terminal.end() == 0


def test_the_example_opens_with_three_questions_that_it_answers(terminal):
    opening = terminal.read()
    asked = {"Where is the red circle?": "top right", "How many shapes are there?": "3"}
    asked["What is below the red circle?"] = "a yellow cross"
    assert f"For example: {' '.join(asked)}" in opening
    assert all(terminal.say(question) == f"{question}\n{given}\n\n> " for question, given in asked.items())
    assert terminal.end() == 0


def test_what_is_no_question_is_refused_and_the_conversation_goes_on(terminal):
    terminal.read()
    assert "error: /help is not a command: /picture FILE is the only one." in terminal.say("/help")
    assert "error: /picture is not a command" in terminal.say("/picture")
    assert "error: the question contains <|image_pad|>" in terminal.say("What is <|image_pad|>?")
    assert terminal.say("") == "\n\n> "
    assert "top right" in terminal.say("Where is the red circle?")
    assert terminal.end() == 0


def test_ctrl_c_ends_the_conversation(terminal):
    terminal.read()
    # A signal between the prompt and the wait for a line is noticed with the next one only.
    for _ in range(6):
        os.killpg(terminal.process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            terminal.process.wait(timeout=10)
            break
    assert terminal.end("") == 0


@torch.no_grad()
def test_a_conversation_of_the_example_is_that_without_a_cache(tiny, capsys):
    """Also where an answer does not read back as the tokens that it had, or stops in the middle."""
    from examples import ask as example

    scenes, pictures, rng = held_out(2, seed=4)
    talk = example.Conversation(*tiny, max_new_tokens=2)
    fresh = example.Conversation(*tiny, max_new_tokens=2)
    for number, (question, _) in enumerate(make_questions(scenes[0], rng, 4)):
        if number in (0, 2):
            for conversation in (talk, fresh):
                conversation.add(pictures[number // 2])
        talk.ask(question)
        fresh.cache = None
        fresh.ask(question)
        assert talk.messages == fresh.messages
        assert talk.cache.get_seq_length() == talk.cached_ids.shape[1]


def test_the_example_answers_and_prints_distances():
    result = run_example()
    assert result.returncode == 0, result.stderr
    assert "top right" in result.stdout
    mrope, circle = (
        float(re.search(rf"^ +{name} +([\d.]+)$", result.stdout, re.M)[1]) for name in ("M-RoPE", "Circle-RoPE")
    )
    assert circle < 1e-4 < mrope


def test_the_example_takes_a_picture_and_a_question(tmp_path):
    scenes, pictures, _ = held_out(1, seed=11)
    pictures[0].save(tmp_path / "picture.png")
    thing = scenes[0][0]
    result = run_example("--image", tmp_path / "picture.png", "--question", f"What colour is the {thing.shape}?")
    assert f"\n{thing.colour}\n" in result.stdout


@pytest.mark.parametrize(
    "arguments", [("--image", "absent.png"), ("--image", __file__), ("--model", "absent/model"), ("--question", " ")]
)
def test_the_example_refuses_what_it_cannot_read(arguments):
    result = run_example(*arguments)
    assert result.returncode != 0
    assert "error: " in result.stderr and "Traceback" not in result.stderr
