"""The page in a real browser, as a visitor uses it."""

import numpy as np
import pytest
from playwright.sync_api import expect

from browser import ask, last_answer, open_tab, pick_example, plot_of, run_tab, wait_until_quiet

EXAMPLES = ["top right", "3", "yellow"]


def drop(page, *paths):
    """Add files to the pictures, as a visitor does, and wait until the page has told the server and has its answer."""

    def is_told(response):
        return "/queue/join" in response.url and paths[-1].name in (response.request.post_data or "")

    with page.expect_response(is_told):
        page.locator("#pictures input[type=file]").set_input_files([str(path) for path in paths])
    wait_until_quiet(page)


def notice(page, *words):
    """Wait for the note that holds these words, and close it, which nothing else does."""
    note = page.locator(".toast-body .toast-message-item")
    for part in words:
        note = note.filter(has_text=part)
    expect(note).to_be_visible()
    assert "Traceback" not in note.inner_text()
    page.locator(".toast-close").click()
    expect(page.locator(".toast-body")).to_have_count(0)


def set_slider(page, name, value):
    """Type a value into a slider's number."""
    number = page.locator(f"#{name} input[type=number]")
    number.fill(str(value))
    number.press("Enter")


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
def test_an_example_is_answered(space, visit, number):
    page = visit(space)
    pick_example(page, number)
    assert ask(page) == EXAMPLES[number]
    assert "AGE strategy_4" in page.locator("#chat .bot").inner_text()


def test_the_button_asks_and_later_questions_join_the_conversation(space, visit):
    page = visit(space)
    pick_example(page, 0)
    page.locator("#ask").click()
    expect(page.locator("#chat .bot p").first).to_have_text("top right")
    wait_until_quiet(page)
    ask(page, "What is at the top left?")
    expect(page.locator("#chat .user p")).to_have_text(["Where is the red circle?", "What is at the top left?"])
    page.locator("#clear").click()
    expect(page.locator("#chat .bot")).to_have_count(0)
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)


def test_a_picture_of_ones_own(space, visit, pushed):
    page = visit(space)
    drop(page, pushed / "examples" / "shapes_3.png")
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
    assert ask(page, "What colour is the triangle?") == "yellow"


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
