"""The local task: one set of questions in the form of every harness."""

import base64
import csv
import io
import json

from PIL import Image, ImageChops

from evaluation import shapes_task


def test_every_form_asks_the_same_questions(tmp_path):
    folder, asked = shapes_task.write(tmp_path, 5), shapes_task.questions(5)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert [(row["question"], row["answer"]) for row in rows] == [(question, answer) for _, question, answer in asked]
    csv.field_size_limit(10**7)
    with open(folder / "held_out_shapes.tsv", newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    conversations = [json.loads(line) for line in (folder / "held_out_shapes.jsonl").read_text().splitlines()]
    for row, line, conversation, (picture, question, answer) in zip(rows, table, conversations, asked):
        image, text = conversation["messages"][0]["content"]
        assert (line["question"], line["answer"]) == (text["text"], conversation["answer"]) == (question, answer)
        in_table = io.BytesIO(base64.b64decode(line["image"]))
        for place in (folder / row["image"], in_table, image["image_url"]["url"]):
            assert ImageChops.difference(Image.open(place), picture).getbbox() is None


def test_fewer_questions_are_the_first_of_more():
    few, many = shapes_task.questions(3), shapes_task.questions(6)
    assert [entry[1:] for entry in few] == [entry[1:] for entry in many[:3]]
    assert all(one.tobytes() == other.tobytes() for (one, *_), (other, *_) in zip(few, many))
