"""`transformers serve` by its launcher: what it answers over HTTP is what `generate` answers."""

import concurrent.futures
import contextlib
import sys

import openai
import pytest
import torch

from .http_tools import ROOT, messages, serve, turned

LAUNCHER = (sys.executable, "-m", "serving.transformers_serve")


@contextlib.contextmanager
def start(*options):
    with serve(*LAUNCHER, ROOT, "--dtype", "float32", "--device", "cpu", *options, cwd=ROOT) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300)


@pytest.fixture(scope="module")
def client():
    with start() as client:
        yield client


@pytest.fixture(scope="module")
def expected():
    """Answers of `generate` to the example picture turned by eighths."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(ROOT, trust_remote_code=True, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(ROOT, trust_remote_code=True)
    answers = []
    for number in range(8):
        text = {"type": "text", "text": "Where is the red circle?"}
        turn = [{"role": "user", "content": [{"type": "image", "image": turned(number)}, text]}]
        inputs = processor.apply_chat_template(
            turn, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
        answers.append(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return answers


def complete(client, number, **options):
    options = {"max_tokens": 32, "temperature": 0, **options}
    return client.chat.completions.create(model=str(ROOT), messages=messages(turned(number)), **options)


def test_models_are_listed(client):
    client.models.list()


def test_answers_one_after_the_other(client, expected):
    assert [complete(client, number).choices[0].message.content for number in range(8)] == expected


def test_answers_to_clients_at_once(client, expected):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: complete(client, number).choices[0].message.content, range(8)))
    assert answers == expected


def test_an_answer_that_streams(client, expected):
    chunks = [chunk.choices[0].delta.content for chunk in complete(client, 0, stream=True) if chunk.choices]
    assert len(chunks) > 2
    assert "".join(chunk or "" for chunk in chunks) == expected[0]


def test_continuous_batching_leaves_pictures_to_plain_generation(expected):
    with start("--continuous-batching") as client:
        assert [complete(client, number).choices[0].message.content for number in range(8)] == expected
