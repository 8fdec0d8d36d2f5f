"""The page in a real browser, as a visitor uses it."""

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image
from playwright.sync_api import expect

from browser import ask, last_answer, open_tab, pick_example, plot_of, run_tab, set_slider, wait_until_quiet

EXAMPLES = ["top right", "4", "green", "a yellow triangle", "left"]


def drop(page, *paths):
    """Add files to the pictures, as a visitor does, and wait until the page has told the server and has its answer."""

    def is_told(response):
        return "/queue/join" in response.url and paths[-1].name in (response.request.post_data or "")

    with page.expect_response(is_told):
        page.locator("#pictures input[type=file]").set_input_files([str(path) for path in paths])
    wait_until_quiet(page)


def notice(page, *words, title="Please note"):
    """Wait for the note that holds these words, and close it, which nothing else does."""
    expect(page.locator(".toast-title")).to_have_text(title)
    note = page.locator(".toast-body .toast-message-item")
    for part in words:
        note = note.filter(has_text=part)
    expect(note).to_be_visible()
    assert "Traceback" not in note.inner_text()
    page.locator(".toast-close").click()
    expect(page.locator(".toast-body")).to_have_count(0)


def test_the_page_opens_with_an_example_and_its_cone(space, visit):
    page = visit(space)
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
    expect(page.locator("#circle_ptd strong")).to_have_text("0.0000")
    lines, text, picture = plot_of(page, "circle_plot")
    points = np.array([picture[axis] for axis in "xyz"])
    tip = np.array([[lines[axis][0]] for axis in "xyz"])
    assert points.shape == (3, 16) and np.ptp(np.linalg.norm(points - tip, axis=0)) < 1e-3
    assert tip.T.tolist()[0] in np.array([text[axis] for axis in "xyz"]).T.tolist()
    assert ask(page) == EXAMPLES[0]


def test_the_view_is_of_the_picture_of_the_ring_or_of_the_whole_input(space, visit):
    page = visit(space)

    def shown():
        text, picture = plot_of(page, "circle_plot")[1:]
        return len(text["x"]), len(picture["x"])

    def look(view):
        page.get_by_label(view, exact=True).check()
        page.wait_for_function(
            "view => document.querySelector('#circle_plot .js-plotly-plot')?._fullLayout?.scene?.uirevision == view",
            arg={"Picture": "picture", "Along the text": "axis", "Whole input": "whole"}[view],
        )
        wait_until_quiet(page)
        return shown()

    near = shown()
    along, whole = look("Along the text"), look("Whole input")
    assert along[0] < near[0] < whole[0] and along[1] == near[1] == whole[1] == 16
    eye = "() => document.querySelector('#circle_plot .js-plotly-plot')._fullLayout.scene.camera.eye"
    look("Along the text")
    assert len(set(page.evaluate(eye).values())) == 1  # along (1, 1, 1)
    assert look("Whole input") == whole


def test_a_picture_of_ones_own_takes_the_place_of_the_example(space, visit, pushed):
    page = visit(space)
    for count, name in enumerate(("shapes_3.png", "shapes_2.png"), start=1):
        drop(page, pushed / "examples" / name)
        expect(page.locator("#pictures .thumbnail-item")).to_have_count(count)


def test_a_double_click_asks_once(space, visit):
    page = visit(space)
    page.locator("#ask").dblclick()
    expect(page.locator("#chat .bot small")).to_have_count(1)
    wait_until_quiet(page)
    expect(page.locator("#chat .user")).to_have_count(1)
    expect(page.locator("#chat")).not_to_contain_text("The question is empty")


def test_a_question_is_shown_as_it_was_typed(space, visit):
    page = visit(space)
    question = "<b>Where</b> is **the** `red` circle? # $$x$$ [a](http://b.example) <img src=x onerror=alert(1)> &amp;"
    ask(page, question)
    expect(page.locator("#chat .user p")).to_have_text(question)
    assert page.locator("#chat .user").locator("b, strong, code, a, img, .katex").count() == 0


def test_stop_in_compare_leaves_nothing_waiting(endless, visit):
    page = visit(endless)
    page.locator("#settings > button").click()
    set_slider(page, "max_new_tokens", 512)
    open_tab(page, "compare")
    page.locator("#compare").click()
    expect(page.locator("#cards .pending")).to_have_count(5)
    page.locator("#stop").click()
    expect(page.locator("#cards .pending")).to_have_count(0)
    expect(page.locator("#cards")).not_to_contain_text("waiting")
    expect(page.locator("#cards")).to_contain_text("stopped")


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_is_answered_on_every_tab(space, visit, number):
    page = visit(space)
    pick_example(page, number)
    run_tab(page, "see")
    expect(page.locator("#circle_ptd strong")).to_have_text("0.0000")
    run_tab(page, "attention")
    expect(page.locator("#right_words")).to_contain_text(f"AGE strategy_4 answers: {EXAMPLES[number]}\n")
    run_tab(page, "compare")
    expect(page.locator("#cards [data-geometry=strategy_4] .answer")).to_have_text(EXAMPLES[number])
    assert ask(page) == EXAMPLES[number]
    assert "AGE strategy_4" in page.locator("#chat .bot").inner_text()


def test_later_questions_and_the_same_one_again_are_answered(space, visit):
    page = visit(space)
    for question, answer in (
        ("Where is the red circle?", "top right"),
        ("How many shapes are there?", "4"),
        ("Where is the red circle?", "top right"),
        ("What is at the bottom left?", "a purple square"),
    ):
        assert ask(page, question) == answer


@pytest.mark.parametrize(
    "question", ["where is the red circle", "WHERE IS THE RED CIRCLE?", "where is the red circle?"]
)
def test_a_question_may_be_written_carelessly(space, visit, question):
    assert ask(visit(space), question) == "top right"


def test_each_of_two_pictures_can_be_asked_about(space, visit):
    page = visit(space)
    pick_example(page, 3)
    assert ask(page, "What is at the top left in the second picture?") == "a yellow square"


def test_a_photo_and_a_picture_that_is_not_there_are_unknown(space, visit, tmp_path):
    page = visit(space)
    Image.effect_noise((320, 240), 90).convert("RGB").save(tmp_path / "photo.jpg")
    drop(page, tmp_path / "photo.jpg")
    assert ask(page, "Where is the red circle?") == "I know coloured shapes only."
    expect(page.locator("#chat .bot")).to_contain_text("in English, and nothing else")


def test_the_button_asks_and_later_questions_join_the_conversation(space, visit):
    page = visit(space)
    pick_example(page, 0)
    page.locator("#ask").click()
    expect(page.locator("#chat .bot p").first).to_have_text("top right")
    wait_until_quiet(page)
    assert ask(page, "What is at the top left?") == "a yellow triangle"
    expect(page.locator("#chat .user p")).to_have_text(["Where is the red circle?", "What is at the top left?"])
    page.locator("#clear").click()
    expect(page.locator("#chat .bot")).to_have_count(0)
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)


def test_a_picture_of_ones_own(space, visit, pushed):
    page = visit(space)
    drop(page, pushed / "examples" / "shapes_3.png")
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
    assert ask(page, "What colour is the triangle?") == "green"


def test_a_picture_from_the_clipboard(space, visit):
    page = visit(space)
    page.locator("#paste").click()
    notice(page, "No picture could be read from the clipboard")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async () => {
            const picture = await fetch(document.querySelector("#examples img").src);
            const blob = new Blob([await picture.arrayBuffer()], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }"""
    )
    page.locator("#paste").click()
    expect(page.locator("#pictures .thumbnail-item img[src*=pasted]")).to_have_count(1)
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
    assert ask(page, "Where is the red circle?") == "top right"
    # The keyboard, from anywhere on the page.
    page.locator("#title").click()
    page.keyboard.press("Control+v")
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(2)


def test_the_geometry_is_switched(space, visit):
    page = visit(space)
    pick_example(page, 0)
    page.locator("#schedule input").click()
    page.get_by_role("option", name="M-RoPE", exact=True).click()
    ask(page)
    expect(page.locator("#chat .bot small")).to_have_text("M-RoPE")


def test_compare_shows_every_geometry_and_follows_the_sliders(space, visit):
    page = visit(space)
    pick_example(page, 0)
    run_tab(page, "compare")
    cards = page.locator("#cards .card")
    expect(cards).to_have_count(5)
    expect(page.locator("#cards [data-geometry=strategy_4] .answer")).to_have_text("top right")
    circle = page.locator("#cards [data-geometry=circle] .ptd")
    expect(circle).to_have_text("PTD 0.0000")
    set_slider(page, "dff_rate", 1)
    expect(circle).not_to_have_text("PTD 0.0000")
    page.locator("#reset").click()
    expect(circle).to_have_text("PTD 0.0000")


def test_a_slider_moves_the_plot_and_the_distance(space, visit):
    page = visit(space)
    pick_example(page, 0)
    open_tab(page, "see")
    expect(page.locator("#circle_ptd strong")).to_have_text("0.0000")
    before, mrope = plot_of(page, "circle_plot"), plot_of(page, "mrope_plot")
    assert [trace["name"] for trace in before] == ["from “circle” to the picture", "text", "picture 1"]
    assert len(before[2]["x"]) == 16
    set_slider(page, "dff_rate", 0.5)
    expect(page.locator("#circle_ptd strong")).not_to_have_text("0.0000")
    wait_until_quiet(page)
    blended = plot_of(page, "circle_plot")
    assert blended[2] != before[2]
    # The slider itself, with the keyboard.
    page.locator("#radius input[type=range]").focus()
    page.keyboard.press("End")
    expect(page.locator("#radius input[type=number]")).to_have_value("30")
    page.wait_for_function(
        "old => Math.max(...document.querySelector('#circle_plot .js-plotly-plot')._fullData[2].x) != old",
        arg=max(blended[2]["x"]),
    )
    assert plot_of(page, "mrope_plot") == mrope


def test_several_pictures_and_the_steps_of_a_video_have_rings_of_their_own(space, visit):
    page = visit(space)
    pick_example(page, 3)
    open_tab(page, "see")
    page.wait_for_function("() => document.querySelector('#circle_plot .js-plotly-plot')?._fullData?.length == 4")
    pick_example(page, 4)
    page.wait_for_function(
        "() => document.querySelector('#circle_plot .js-plotly-plot')._fullData[2].name == 'video 1'"
    )
    assert len({tuple(trace["x"]) for trace in plot_of(page, "circle_plot")[2:]}) > 1


def test_hovering_names_the_token(space, visit):
    page = visit(space)
    pick_example(page, 0)
    open_tab(page, "see")
    expect(page.locator("#circle_ptd strong")).to_be_visible()
    shown = page.evaluate(
        """() => document.querySelector('#circle_plot .js-plotly-plot').data.map(
            trace => (trace.hovertemplate || '') + JSON.stringify((trace.customdata || []).slice(-1)))"""
    )
    assert "row 4, column 4" in shown[2] and "%{customdata[0]}" in shown[2]
    assert "assistant" in str(
        page.evaluate("document.querySelector('#circle_plot .js-plotly-plot').data[1].customdata")
    )


def test_attention_lies_over_the_picture_for_two_geometries(space, visit):
    page = visit(space)
    pick_example(page, 0)
    run_tab(page, "attention")
    expect(page.locator("#left_words strong")).to_have_text("M-RoPE")
    expect(page.locator("#right_words strong")).to_have_text("AGE strategy_4")
    expect(page.locator("#right_words")).to_contain_text("top right")
    for name in ("left_map", "right_map"):
        expect(page.locator(f"#{name} .layer-below image, #{name} .imagelayer image").first).to_be_attached()
    read = "() => JSON.stringify(document.querySelector('#right_map .js-plotly-plot')._fullData[0].z)"
    mean = page.evaluate(read)
    set_slider(page, "opacity", 0.25)
    page.wait_for_function(
        "() => document.querySelector('#right_map .js-plotly-plot')._fullData[0].opacity == 0.25", timeout=60_000
    )
    page.locator("#layer input").click()
    page.get_by_role("option", name="2", exact=True).click()
    page.wait_for_function(f"old => ({read})() != old", arg=mean)


def test_a_click_on_a_small_map_opens_it(space, visit, client, pushed):
    page = visit(space)
    run_tab(page, "attention")
    assert page.locator("#left_all button").count() == page.locator("#right_all button").count() == 6 * 4
    page.get_by_role("button", name="Layer 2, head 1").last.click()
    expect(page.locator("#layer input")).to_have_value("2")
    expect(page.locator("#head input")).to_have_value("1")
    expected = client.predict(
        [handle_file(str(pushed / "examples" / "shapes_1.png"))],
        "Where is the red circle?",
        layer=2,
        head=1,
        api_name="/attention",
    )
    page.wait_for_function(
        """expected => {
            const shown = document.querySelector("#right_map .js-plotly-plot")._fullData[0].z;
            return expected.every((row, r) => row.every((value, c) => Math.abs(100 * value - shown[r][c]) < 1e-3));
        }""",
        arg=expected["attention"][0],
    )


def test_small_maps_are_in_one_scale_which_is_that_of_the_large_ones(space, visit):
    page = visit(space)
    run_tab(page, "attention")
    lightest = page.evaluate(
        """() => {
            let most = [0, 0, 0];
            for (const image of document.querySelectorAll("#left_all img, #right_all img")) {
                const canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                const pen = canvas.getContext("2d");
                pen.drawImage(image, 0, 0);
                const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
                for (let n = 0; n < pixels.length; n += 4)
                    if (pixels[n] > most[0]) most = [pixels[n], pixels[n + 1], pixels[n + 2]];
            }
            return most;
        }"""
    )
    scale = page.evaluate("document.querySelector('#right_map .js-plotly-plot')._fullData[0].colorscale")
    assert lightest == _rgb(scale[-1][1])
    assert page.locator("#right_all img").first.evaluate("e => [e.naturalWidth, e.naturalHeight]") == [4, 4]


def test_logits_are_shown_by_distance_for_both_geometries(space, visit):
    page = visit(space)
    mrope, circle = plot_of(page, "logits_plot")
    assert [mrope["name"], circle["name"]] == ["M-RoPE: spread 0.034", "Circle-RoPE, with the sliders: spread 0.476"]
    assert len(mrope["x"]) == len(circle["x"]) == 16
    assert np.ptp(circle["x"]) < 1e-3 and np.ptp(circle["y"]) > 10 * np.ptp(mrope["y"]) > 0
    lines = plot_of(page, "circle_plot")[0]
    tip, base = (np.array([lines[axis][end] for axis in "xyz"]) for end in (0, 1))
    assert circle["x"][0] == pytest.approx(np.linalg.norm(tip - base), abs=1e-3)
    set_slider(page, "radius", 0)
    page.wait_for_function(
        "() => document.querySelector('#logits_plot .js-plotly-plot')._fullData[1].name.endsWith('0.000')"
    )


def test_colours_follow_the_numbers_in_grey(space, visit):
    """The scale of the rows and of the attention gets lighter from end to end."""
    page = visit(space)
    run_tab(page, "attention")
    for name, path in (("circle_plot", "[2].marker.colorscale"), ("right_map", "[0].colorscale")):
        scale = page.evaluate(f"document.querySelector('#{name} .js-plotly-plot')._fullData{path}")
        light = [np.dot(_rgb(colour), [0.2126, 0.7152, 0.0722]) for _, colour in scale]
        assert np.all(np.diff(light) > 0) and light[-1] - light[0] > 150


def _rgb(colour):
    parts = (
        colour[4:-1].split(",") if colour.startswith("rgb") else [str(int(colour[n : n + 2], 16)) for n in (1, 3, 5)]
    )
    return [float(part) for part in parts]


def test_the_picture_fills_its_view_in_a_long_conversation_too(space, visit):
    page = visit(space)
    for question in ("Where is the red circle?", "How many shapes are there?", "What shape is black?"):
        ask(page, question)
    for name in ("mrope_plot", "circle_plot"):
        _, text, picture = plot_of(page, name)
        assert all(np.ptp(picture[axis]) > 0.3 * np.ptp(text[axis] + picture[axis]) for axis in "yz"), name


def test_a_video_has_one_entry_in_the_legend_and_names_its_steps(space, visit):
    page = visit(space)
    pick_example(page, 4)
    page.wait_for_function("() => document.querySelector('#circle_plot .js-plotly-plot')?._fullData?.length == 4")
    shown = page.evaluate(
        """() => document.querySelector("#circle_plot .js-plotly-plot")._fullData.slice(2).map(
            trace => [trace.name, trace.showlegend, trace.hovertemplate.split("<br>")[0]])"""
    )
    assert shown == [["video 1", True, "video 1, step 1"], ["video 1", False, "video 1, step 2"]]


def test_an_avif_is_taken(space, visit, tmp_path, pushed):
    page = visit(space)
    Image.open(pushed / "examples" / "shapes_3.png").save(tmp_path / "shapes.avif")
    drop(page, tmp_path / "shapes.avif")
    assert ask(page, "What colour is the triangle?") == "green"


def test_a_restart_of_the_server_is_said(run, pushed, visit):
    with run(pushed / "app.py") as space:
        page = visit(space)
        assert ask(page) == "top right"
    page.locator("#ask").click()
    expect(page.locator(".toast-message-text")).to_contain_text("The connection to the server is lost")
    with run(pushed / "app.py", port=int(space.url.rpartition(":")[2])):
        notice(page, "This page was loaded anew, and your pictures and your conversation are gone")
        expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
        assert ask(page, "Where is the red circle?") == "top right"


def test_a_page_on_which_nothing_was_done_may_be_loaded_again(space, visit):
    page = visit(space)
    page.reload()
    plot_of(page, "circle_plot")
    wait_until_quiet(page)
    expect(page.locator(".toast-body")).to_have_count(0)


def test_a_bad_file_is_named_and_the_page_lives_on(space, visit, bad_files):
    page = visit(space)
    for path, words in bad_files.items():
        drop(page, path)
        notice(page, path.name, words)
        expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)  # the example is still there
    pick_example(page, 0)
    assert ask(page) == "top right"


def test_a_bad_question_is_answered_by_a_sentence(space, visit):
    page = visit(space)
    pick_example(page, 0)
    for question, words in (("", "The question is empty"), ("a" * 100_000, "100,000 characters")):
        page.locator("#question textarea").fill(question)
        page.locator("#question textarea").press("Enter")
        expect(page.locator("#chat")).to_contain_text(words)
    assert "Traceback" not in page.content()
    assert ask(page, "Where is the red circle?") == "top right"


def test_comparing_and_attending_to_nothing_is_answered_by_a_sentence(space, visit):
    page = visit(space)
    page.locator("#pictures button[aria-label='Clear']").first.click()
    page.locator("#question textarea").fill("")
    open_tab(page, "compare")
    page.locator("#compare").click()
    notice(page, "The question is empty")
    open_tab(page, "attention")
    page.locator("#attend").click()
    notice(page, "The question is empty")
    open_tab(page, "see")
    expect(page.locator("#mrope_plot")).to_contain_text("Add a picture or pick an example")


def test_two_visitors_at_once_see_only_their_own(space, visit):
    pages = [visit(space) for _ in range(2)]
    for page, geometry, number in zip(pages, ("M-RoPE", "AGE strategy_4"), (2, 0)):
        page.locator("#schedule input").click()
        page.get_by_role("option", name=geometry, exact=True).click()
        pick_example(page, number)
    for page in pages:
        page.locator("#ask").click()
    for page, geometry in zip(pages, ("M-RoPE", "AGE strategy_4")):
        expect(page.locator("#chat .bot small")).to_have_text(geometry)
    assert last_answer(pages[1]) == "top right"
    expect(pages[0].locator("#chat .user p")).to_have_text("What colour is the triangle?")


def test_stop_ends_an_answer_and_the_next_one_comes(endless, visit):
    page = visit(endless)
    expect(page.locator("#intro")).to_contain_text("endless")
    page.locator("#settings > button").click()
    set_slider(page, "max_new_tokens", 512)
    page.locator("#question textarea").fill("Talk.")
    page.locator("#question textarea").press("Enter")
    expect(page.locator("#chat .bot p").first).not_to_be_empty()
    page.locator("#stop").click()
    wait_until_quiet(page)
    length = len(page.locator("#chat .bot").inner_text())
    set_slider(page, "max_new_tokens", 4)
    ask_after_stop = page.locator("#question textarea")
    ask_after_stop.fill("Again.")
    ask_after_stop.press("Enter")
    expect(page.locator("#chat .bot small")).to_have_count(2)
    assert 0 < len(page.locator("#chat .bot").first.inner_text()) <= length + 40


def test_uploads_are_gone_when_the_page_is(space, visit, tmp_path, pushed):
    names = []
    for number, example in enumerate(("shapes_1.png", "shapes_2.png")):
        path = tmp_path / f"visitor_{number}.png"
        path.write_bytes((pushed / "examples" / example).read_bytes())
        names.append(path)
    pages = [visit(space), visit(space)]
    for page in pages:
        drop(page, names[0])
        expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
    drop(pages[1], names[1])
    expect(pages[1].locator("#pictures .thumbnail-item")).to_have_count(2)
    assert {path.name for path in names} <= space.uploads()

    def gone(name):
        # The server learns of a closed page from the page's next sign of life.
        for _ in range(900):
            if name not in space.uploads():
                return True
            pages[0].wait_for_timeout(100)
        return False

    pages[1].close()
    assert gone("visitor_1.png")
    assert "visitor_0.png" in space.uploads()
    assert ask(pages[0], "Where is the red circle?") == "top right"
    pages[0].locator("#pictures button[aria-label='Clear']").first.click()
    assert gone("visitor_0.png")


def test_a_file_that_is_gone_is_said_in_a_sentence(space, visit, tmp_path, pushed):
    """As after a tab that slept for long."""
    page = visit(space)
    (tmp_path / "slept.png").write_bytes((pushed / "examples" / "shapes_2.png").read_bytes() + b"slept")
    drop(page, tmp_path / "slept.png")
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
    for path in space.temporary.rglob("slept.png"):
        path.unlink()
    page.locator("#question textarea").fill("How many shapes are there?")
    page.locator("#question textarea").press("Enter")
    expect(page.locator("#chat")).to_contain_text("slept.png is no longer here")


def test_nothing_went_wrong_on_the_server(space):
    assert "a request failed" not in space.log
