"""The named endpoints, called with gradio_client as any program would."""

import concurrent.futures
import itertools
import random
import re
import subprocess
import sys

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from conftest import SPACE
from shapes.pictures import draw, make_questions, make_scene

EXAMPLES = SPACE / "examples"
PICTURE, QUESTION, ANSWER = EXAMPLES / "shapes_1.png", "Where is the red circle?", "top right"
GEOMETRIES = ["mrope", "circle", "strategy_2", "strategy_3", "strategy_4"]


def call(client, endpoint, *pictures, question=QUESTION, **rest):
    files = [handle_file(str(picture)) for picture in pictures]
    return client.predict(pictures=files, question=question, api_name=endpoint, **rest)


def refusal(client, endpoint, *pictures, **rest):
    """The one sentence with which a request is refused."""
    with pytest.raises(AppError) as caught:
        call(client, endpoint, *pictures, **rest)
    words = str(caught.value)
    assert "\n" not in words and "Traceback" not in words and words.endswith((".", "again."))
    return words


def test_the_endpoints_have_names_and_nothing_else_can_be_called(client):
    named = client.view_api(return_format="dict", print_info=False)
    assert set(named["named_endpoints"]) == {"/ask", "/compare", "/positions", "/attention"}
    assert not named["unnamed_endpoints"]


def test_no_endpoint_takes_a_model(client):
    for endpoint in client.view_api(return_format="dict", print_info=False)["named_endpoints"].values():
        assert not {"model", "model_id", "revision"} & {part["parameter_name"] for part in endpoint["parameters"]}


def test_ask_answers_about_a_picture(client):
    assert call(client, "/ask", PICTURE) == ANSWER


def test_the_answer_is_streamed(client):
    job = client.submit(pictures=[handle_file(str(PICTURE))], question=QUESTION, api_name="/ask")
    assert job.result(timeout=60) == ANSWER
    assert [ANSWER.startswith(part.strip()) for part in job.outputs()] == [True] * len(job.outputs())
    assert len(job.outputs()) > 1


def test_history_and_a_second_picture_are_read(client):
    before = call(client, "/positions", PICTURE)
    history = [[QUESTION, ANSWER]]
    after = call(
        client, "/positions", PICTURE, EXAMPLES / "shapes_5.png", history=history, question="What shape is red?"
    )
    assert ANSWER in "".join(after["tokens"]) and "What shape is red?" in "".join(after["tokens"])
    assert sum(after["is_vision"]) == 2 * sum(before["is_vision"])


def test_a_video_can_be_asked_about(client):
    assert call(client, "/ask", EXAMPLES / "moving.mp4", question="What shape is blue?") == "the square"


@pytest.mark.parametrize(
    "question, answer",
    [
        ("Wo ist der rote Kreis?", "I know coloured shapes only. Try: Where is the red circle?"),
        ("Who is the mayor of this town?", "I know coloured shapes only. Try: Where is the red circle?"),
        ("今天天气怎么样？", "我只认识彩色图形。试试：红色圆形在哪里？"),
    ],
)
def test_what_the_model_was_not_taught_is_said(client, question, answer):
    assert call(client, "/ask", PICTURE, question=question) == answer


def test_the_first_call_of_the_readme_prints_its_answer(space):
    code = re.search(r"```python\n(.*?)```", (SPACE / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    start, answer = re.match(r"(.*?)  # (.*?)\n", code.replace("http://127.0.0.1:7860", space.url), re.DOTALL).groups()
    printed = subprocess.run([sys.executable, "-c", start], cwd=SPACE, capture_output=True, text=True).stdout
    assert printed.splitlines()[-1] == answer == ANSWER


def test_compare_answers_under_every_geometry(client):
    entries = call(client, "/compare", PICTURE)
    assert [entry["geometry"] for entry in entries] == GEOMETRIES
    assert [entry["geometry"] for entry in entries if entry["trained"]] == ["strategy_4"]
    assert next(entry["answer"] for entry in entries if entry["trained"]) == ANSWER
    assert all(entry["seconds"] > 0 and entry["tokens"] > 0 for entry in entries)
    by_name = {entry["geometry"]: entry["ptd"] for entry in entries}
    assert by_name["circle"] == pytest.approx(0, abs=1e-5)
    assert by_name["strategy_4"] == pytest.approx(by_name["mrope"] / 2, abs=1e-5)


def test_sliders_change_positions(client):
    small, large, flat = (
        call(client, "/positions", PICTURE, **sliders) for sliders in ({"radius": 2}, {"radius": 20}, {"dff_rate": 1})
    )
    assert small["mrope"] == large["mrope"] and small["circle"] != large["circle"]
    assert small["ptd"]["circle"] == pytest.approx(0, abs=1e-5)
    assert flat["ptd"]["circle"] > 0.01


def test_attention_has_the_shape_of_the_picture_and_sums_to_a_share(client):
    mean = call(client, "/attention", PICTURE)
    one = call(client, "/attention", PICTURE, layer=2, head=1)
    assert mean["answer"] == ANSWER
    for result in (mean, one):
        (weights,) = result["attention"]
        assert [len(row) for row in weights] == [4] * 4
        assert 0 < sum(map(sum, weights)) <= 1
    assert mean != one


def test_bad_files_are_refused_in_one_sentence(client, bad_files):
    for path, words in bad_files.items():
        assert words in refusal(client, "/ask", path)
    for endpoint in ("/compare", "/positions", "/attention"):
        assert "cannot be read" in refusal(client, endpoint, next(path for path in bad_files if path.stem == "text"))


@pytest.mark.parametrize(
    "rest, words",
    [
        ({"question": ""}, "The question is empty"),
        ({"question": "  \n"}, "The question is empty"),
        ({"question": "a" * 100_000}, "100,000 characters"),
        ({"question": "What is <|image_pad|>?"}, "<|image_pad|>"),
        ({"geometry": "spiral"}, "geometry is spiral"),
        ({"geometry": ["mrope"]}, "geometry is ['mrope']"),
        ({"radius": -1}, "radius is -1"),
        ({"radius": "nan"}, "radius is nan"),
        ({"alpha": 2}, "alpha is 2"),
        ({"dff_rate": True}, "dff_rate is True"),
        ({"max_new_tokens": 10**9}, "max_new_tokens is 1000000000"),
        ({"max_new_tokens": 1.5}, "max_new_tokens is 1.5"),
        ({"temperature": 1e9}, "temperature is 1000000000.0"),
        ({"history": [["q"]]}, "history must be"),
        ({"history": [["q", "a"]] * 12}, "12 questions"),
        ({"history": [["q", "a" * 10_000]]}, "10,000 characters"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(client, rest, words):
    assert words in refusal(client, "/ask", PICTURE, **rest)


def test_too_many_pictures_are_refused(client):
    assert "5 pictures" in refusal(client, "/ask", *[PICTURE] * 5)


def test_attention_without_a_picture_is_refused(client):
    assert "needs a picture" in refusal(client, "/attention")


@pytest.mark.parametrize("path", ["/etc/passwd", "../app.py", "http://127.0.0.1:1/x.png", 7, None])
def test_only_uploads_are_read(space, path):
    """A request written by hand cannot name a file of the machine or an address."""
    data = [[{"path": path, "meta": {"_type": "gradio.FileData"}}], QUESTION, None, "mrope", None, None, None, 8, 0]
    with httpx.Client(base_url=f"{space.url}/gradio_api", timeout=60) as http:
        event = http.post("/call/ask", json={"data": data}).json()["event_id"]
        answer = http.get(f"/call/ask/{event}").text
    assert "event: error" in answer and "root:" not in answer
    if path is None or path == 7:
        assert "must be a list of uploaded files" in answer
    elif path.startswith("http"):
        assert "files must be uploaded" in answer


def test_a_file_over_the_limit_is_not_stored(space):
    before = space.uploads()
    answer = httpx.post(f"{space.url}/gradio_api/upload", files={"files": ("big.png", bytes(21 * 2**20))}, timeout=60)
    assert answer.status_code == 413
    assert space.uploads() == before


def test_uploads_are_refused_while_there_is_no_room_for_them(run, pushed):
    with run(pushed / "app.py", MAX_UPLOADS_MB="1") as space:
        answers = [
            httpx.post(f"{space.url}/gradio_api/upload", files={"files": (name, bytes(2**20))}, timeout=60)
            for name in ("first.png", "second.png")
        ]
        assert [answer.status_code for answer in answers] == [200, 507]
        assert "no room for uploads" in answers[1].text
        assert "first.png" in space.uploads() and "second.png" not in space.uploads()


def test_twenty_users_at_once_all_get_their_answer(space, tmp_path):
    rng = random.Random(5)
    asked = []
    for number in range(20):
        scene = make_scene(rng, held_out=True)
        draw(scene, rng).save(tmp_path / f"{number}.png")
        asked.append((tmp_path / f"{number}.png", *make_questions(scene, rng, 1)[0]))

    def one_user(user):
        path, question, answer = user
        return call(Client(space.url, verbose=False), "/ask", path, question=question) == answer

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert list(pool.map(one_user, asked)) == [True] * 20


def test_users_with_different_geometries_do_not_disturb_each_other(space):
    """Their answers may be the same, but not where they look."""
    settings = [{"geometry": geometry, "radius": radius} for geometry in GEOMETRIES for radius in (0, 30)]
    alone_client = Client(space.url, verbose=False)

    def look(client, setting):
        return np.array(call(client, "/attention", PICTURE, **setting)["attention"])

    alone = [look(alone_client, setting) for setting in settings]
    assert not any(np.allclose(first, second) for first, second in itertools.combinations(alone[1:], 2))
    with concurrent.futures.ThreadPoolExecutor(len(settings)) as pool:
        together = list(pool.map(lambda setting: look(Client(space.url, verbose=False), setting), settings * 2))
    np.testing.assert_allclose(together, alone * 2, atol=1e-6)


def test_a_full_queue_is_said_in_a_sentence(endless):
    clients = [Client(endless.url, verbose=False) for _ in range(8)]
    jobs = [client.submit(pictures=[], question="Talk.", max_new_tokens=200, api_name="/ask") for client in clients]
    concurrent.futures.wait(jobs, timeout=120)
    errors = [str(job.exception()) for job in jobs if job.exception()]
    assert errors and all("full" in error for error in errors)
    # The app lives on.
    assert call(clients[0], "/ask", question="Again?", max_new_tokens=2) is not None
