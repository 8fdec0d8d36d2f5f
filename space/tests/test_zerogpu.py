"""On ZeroGPU, as the `spaces` package itself schedules and forks."""

import concurrent.futures
import json

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from conftest import SPACE
from test_api import ANSWER, PICTURE, QUESTION, call


@pytest.fixture
def zerogpu(run, pushed, tmp_path):
    """Runs the pushed Space on an emulated ZeroGPU: `with zerogpu(quota=2) as (space, asked)`."""
    import contextlib

    @contextlib.contextmanager
    def start(quota=1000):
        asked = tmp_path / "asked.jsonl"
        environment = {"SPACES_TEST_ASKED": str(asked), "SPACES_TEST_QUOTA": str(quota)}
        with run(pushed / "app.py", launcher=SPACE / "tests" / "zerogpu.py", **environment) as space:
            yield space, lambda: [json.loads(line) for line in asked.read_text().splitlines()]

    return start


def test_questions_are_answered_while_others_draw_and_durations_follow_what_is_asked(zerogpu):
    """Each question may fork a worker, at any moment of what the other requests do."""
    with zerogpu() as (space, asked), concurrent.futures.ThreadPoolExecutor(7) as pool:
        clients = [Client(space.url, verbose=False) for _ in range(7)]
        drawn = [pool.submit(call, client, "/positions", PICTURE) for client in clients[:4] for _ in range(6)]
        answers = [pool.submit(call, client, "/ask", PICTURE, max_new_tokens=8) for client in clients[4:] * 5]
        assert [answer.result(timeout=300) for answer in answers] == [ANSWER] * 15
        assert all(job.result(timeout=300)["ptd"]["circle"] < 1e-5 for job in drawn)
        call(clients[0], "/ask", PICTURE, max_new_tokens=512)
        call(clients[0], "/compare", PICTURE)
        assert call(clients[0], "/attention", PICTURE)["answer"] == ANSWER
        assert [int(request["durationSeconds"]) for request in asked()] == [13] * 15 + [39, 57, 19]


def test_a_mistake_takes_no_gpu_and_a_used_up_quota_is_said(zerogpu):
    with zerogpu(quota=1) as (space, asked):
        client = Client(space.url, verbose=False)
        assert call(client, "/ask", PICTURE) == ANSWER
        for rest, words in (
            ({"question": ""}, "The question is empty"),
            ({"question": "word " * 399, "history": [["a" * 2000, "b" * 2000]] * 4}, "tokens, but at most"),
        ):
            with pytest.raises(AppError, match=words):
                call(client, "/ask", PICTURE, **rest)
        assert len(asked()) == 1
        for endpoint in ("/ask", "/compare", "/attention"):
            with pytest.raises(AppError, match="No GPU could be had: Space app has reached its GPU limit"):
                client.predict([handle_file(str(PICTURE))], QUESTION, api_name=endpoint)
        assert "a request failed" not in space.log


def test_closing_a_stream_frees_the_gpu(zerogpu):
    with zerogpu() as (space, _):
        client = Client(space.url, verbose=False)
        job = client.submit([handle_file(str(PICTURE))], QUESTION, max_new_tokens=512, temperature=2, api_name="/ask")
        next(iter(job))
        job.cancel()
        assert call(client, "/ask", PICTURE) == ANSWER
