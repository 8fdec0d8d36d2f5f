"""The HTTP server as users start it, and the `openai` client."""

import concurrent.futures
import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.request

import openai
import pytest

from .cases import MEDIA, ROOT, ask, load, log_probabilities, picture, save_adapter
from .http_tools import messages, serve, turned


def start(*more):
    # `vllm serve` is this; the CPU wheel's own command does not start, for the name of its distribution.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", ROOT, "--trust-remote-code"]
    options = "--dtype float32 --enforce-eager --max-model-len 1024 --max-num-seqs 8 --gpu-memory-utilization 0.02"
    media = json.dumps({"image": 4, **MEDIA.get("limit_mm_per_prompt", {})})
    limits = ["--kv-cache-memory-bytes", 1 << 26, "--limit-mm-per-prompt", media]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    return serve(*command, *options.split(), *limits, *more, env=environment)


@pytest.fixture(scope="module")
def server():
    with start() as url:
        yield url


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def model():
    return load(ROOT)


def complete(client, *images, model=str(ROOT), **options):
    return client.chat.completions.create(model=model, messages=messages(*images), temperature=0, **options)


def check(choice, model, *images):
    """The tokens are the greedy ones of the model in transformers, with its log-probabilities."""
    tokens = choice.token_ids
    expected = log_probabilities(model, ask(*images, of=ROOT), tokens)[-len(tokens) :]
    assert tokens == expected.argmax(-1).tolist()
    given = [token.logprob for token in choice.logprobs.content]
    assert given == pytest.approx(expected.amax(-1).tolist(), abs=1e-4)


WITH_TOKENS = {"logprobs": True, "extra_body": {"ignore_eos": True, "return_token_ids": True}}


def test_the_model_is_listed(client):
    assert [model.id for model in client.models.list()] == [str(ROOT)]


def test_a_base64_picture_is_answered_as_in_transformers(client, model):
    for images in [(picture(),), (picture(), picture(112, 84))]:
        check(complete(client, *images, max_tokens=60, **WITH_TOKENS).choices[0], model, *images)


def test_an_answer_that_streams_is_the_same(client):
    whole = complete(client, picture(), max_tokens=32).choices[0].message.content
    pieces = [
        chunk.choices[0].delta.content or "" for chunk in complete(client, picture(), max_tokens=32, stream=True)
    ]
    assert len(pieces) > 2
    assert "".join(pieces) == whole


def test_many_clients_at_once_get_what_each_gets_alone(client):
    pictures = [turned(number) for number in range(8)]

    def answer(image):
        return complete(client, image, max_tokens=32).choices[0].message.content

    alone = [answer(image) for image in pictures]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, pictures)) == alone


@pytest.mark.parametrize(
    "content",
    [
        [*messages(*[picture()] * 5)[0]["content"]],
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
        [{"type": "text", "text": "word " * 3000}],
        [{"type": "image_embeds", "image_embeds": {"image_embeds": "AAAA", "image_grid_thw": "AAAA"}}],
    ],
    ids=["too many pictures", "no picture", "too long", "a grid of one's own"],
)
def test_a_bad_request_is_refused_and_the_next_one_answered(client, content):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=str(ROOT), messages=[{"role": "user", "content": content}])
    assert complete(client, picture(), max_tokens=32).choices[0].message.content.startswith("top right")


@pytest.mark.parametrize("images", [(), (picture(),)], ids=["alone", "beside a picture"])
def test_a_placeholder_in_the_text_does_not_stop_the_server(client, images):
    content = messages(*images, question="<|image_pad|><|vision_start|><|video_pad|>")[0]["content"]
    with contextlib.suppress(openai.BadRequestError):
        turn = [{"role": "user", "content": content}]
        client.chat.completions.create(model=str(ROOT), messages=turn, max_tokens=8)
    assert complete(client, picture(), max_tokens=32).choices[0].message.content.startswith("top right")


def test_two_adapters_alone_and_at_once(tmp_path):
    # Requests without an adapter beside such with one are wrong on the CPU engine, for stock models too.
    models = {name: save_adapter(tmp_path / name, ROOT, seed) for seed, name in enumerate(("first", "second"))}
    named = [f"{name}={tmp_path / name}" for name in models]
    asked = [(name, turned(number)) for number in range(3) for name in models]
    with start("--enable-lora", "--max-lora-rank", 8, "--max-loras", 2, "--lora-modules", *named) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)

        def answer(name, image):
            return complete(client, image, model=name, max_tokens=16, **WITH_TOKENS).choices[0]

        alone = [answer(*each) for each in asked[:2]]
        with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
            at_once = list(pool.map(answer, *zip(*asked)))
    for choice, (name, image) in zip(alone + at_once, asked[:2] + asked):
        check(choice, models[name], image)


def test_engines_side_by_side(model):
    """Data parallel: each engine answers some of the requests, and has a table of its own."""
    pictures = [turned(number) for number in range(8)]
    with start("--data-parallel-size", 2) as url, concurrent.futures.ThreadPoolExecutor(8) as pool:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        answers = list(pool.map(lambda image: complete(client, image, max_tokens=24, **WITH_TOKENS), pictures))
        counts = urllib.request.urlopen(f"{url}/metrics").read().decode()
    for answer, image in zip(answers, pictures):
        check(answer.choices[0], model, image)
    answered = re.findall(r'request_success_total{engine=".",finished_reason="length".* (.+)', counts)
    assert len(answered) == 2 and "0.0" not in answered


def test_a_wrong_block_is_one_sentence_at_the_start(tmp_path):
    from .test_start import edited

    directory = edited(tmp_path / "model", lambda config: config["circle_rope"].update(radus=3))
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(directory)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode != 0
    assert "circle_rope has the unknown key 'radus' (did you mean 'radius'?)" in result.stderr
