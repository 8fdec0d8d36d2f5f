"""The page in a real browser, as a visitor uses it."""

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image
from playwright.sync_api import expect

from browser import ask, last_answer, open_tab, pick_example, plot_of, run_tab, set_slider, wait_until_quiet

EXAMPLES = [
    "a black cross",
    "blue circle, yellow triangle, green square, purple cross",
    "a black cross",
    "bottom left",
    "top right",
]


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


def test_the_page_opens_with_an_example_and_its_cone(space, visit):
    page = visit(space)
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
    expect(page.locator("#circle_ptd")).to_have_text("0.0000")
    lines, text, picture = plot_of(page, "cone_plot")
    points = np.array([picture[axis] for axis in "xyz"])
    tip = np.array([[lines[axis][0]] for axis in "xyz"])
    assert points.shape == (3, 16) and np.ptp(np.linalg.norm(points - tip, axis=0)) < 1e-3
    assert tip.T.tolist()[0] in np.array([text[axis] for axis in "xyz"]).T.tolist()
    assert ask(page) == EXAMPLES[0]


def test_grid_and_ring_share_their_axes_and_the_strip_shows_one_length(space, visit):
    page = visit(space)
    look = """() => {
        const scene = document.querySelector('#cone_plot .js-plotly-plot')._fullLayout.scene;
        return [scene.xaxis.range, scene.yaxis.range, scene.zaxis.range, scene.camera.eye];
    }"""
    ring, axes = plot_of(page, "cone_plot"), page.evaluate(look)
    page.get_by_label("M-RoPE", exact=True).check()
    page.wait_for_function("() => document.querySelector('#cone_plot .js-plotly-plot')._fullData[2].x[0] % 1 == 0")
    grid = plot_of(page, "cone_plot")
    assert page.evaluate(look) == axes
    assert ring[0]["name"] == grid[0]["name"] == "from “circle” to the picture"
    circle, mrope = plot_of(page, "strip_plot")
    assert [circle["name"], mrope["name"]] == ["circle", "mrope"]
    assert np.ptp(circle["x"]) < 1e-3 < 3 < np.ptp(mrope["x"])
    for (lines, *_), strip in ((ring, circle), (grid, mrope)):
        tip, base = (np.array([lines[axis][end] for axis in "xyz"]) for end in (0, 1))
        assert strip["x"][0] == pytest.approx(np.linalg.norm(tip - base), abs=1e-3)


def test_views_show_words_and_can_be_read_after_four_turns(space, visit):
    page = visit(space)

    def look(view):
        page.get_by_label(view, exact=True).check()
        name = {"Picture": "picture", "Along text": "axis", "All": "whole"}[view]
        page.wait_for_function(
            "view => document.querySelector('#cone_plot .js-plotly-plot')?._fullLayout?.uirevision == view", arg=name
        )
        wait_until_quiet(page)
        drawn = "document.querySelector('#cone_plot .js-plotly-plot')"
        words = page.evaluate(f"{drawn}.data[1].customdata.map(word => word[0].trim())")
        scene = f"{drawn}._fullLayout.scene"
        return words, page.evaluate(f"({{eye: {{...{scene}.camera.eye}}, ratio: {{...{scene}.aspectratio}}}})")

    for question in ("Where is the red circle?", "How many shapes are there?", "What is at the top left?"):
        ask(page, question)
    for view in ("Picture", "Along text"):
        words, scene = look(view)
        assert words[-5:] == ["Where", "is", "the", "red", "circle"]
    assert len(set(scene["eye"].values())) == 1  # along (1, 1, 1)
    ask(page, "What is at the bottom left?")
    words, scene = look("All")
    said = "".join(words)
    assert "<|" not in said and "user" not in words and "assistant" not in words[-20:]
    for part in ("Where is the red circle top right", "How many shapes are there 4", "What is at the bottom left"):
        assert part.replace(" ", "") in said
    # The text is squeezed beside the picture, whose ring stays a ring.
    ratio = scene["ratio"]
    assert ratio["y"] == ratio["z"] > 0.3 * ratio["x"]
    written = page.evaluate("document.querySelector('#cone_plot .js-plotly-plot').data[1].text.filter(Boolean).length")
    assert written == 8  # the last word of what each said in turn


def test_a_sample_in_the_empty_chat_is_asked_by_a_click(space, visit):
    page = visit(space)
    samples = page.locator("#chat button.example")
    expect(samples).to_have_count(3)
    for number, answer in enumerate(("top right", "4", "a black cross")):
        samples.nth(number).click()
        expect(page.locator("#chat .bot p").first).to_have_text(answer)
        wait_until_quiet(page)
        page.locator("#clear").click()
        expect(page.locator("#chat .bot")).to_have_count(0)


def test_a_picture_of_ones_own_takes_the_place_of_the_example(space, visit, pushed):
    page = visit(space)
    for count, name in enumerate(("shapes_3.png", "shapes_2.png"), start=1):
        drop(page, pushed / "examples" / name)
        expect(page.locator("#pictures .thumbnail-item")).to_have_count(count)


def test_a_second_click_asks_nothing(space, visit):
    page = visit(space)
    for wait in (0, 120, 500):
        before = page.locator("#chat .user").count()
        page.locator("#question textarea").fill("What is at the top left?")
        page.locator("#ask").click()
        page.wait_for_timeout(wait)
        page.locator("#ask").click()
        expect(page.locator("#chat .bot small")).to_have_count(before + 1)
        page.wait_for_timeout(1000)
        wait_until_quiet(page)
        expect(page.locator("#chat .user")).to_have_count(before + 1)
    expect(page.locator("#chat")).not_to_contain_text("The question is empty")


def test_a_question_that_is_typed_while_one_runs_is_kept(endless, visit):
    page = visit(endless)
    page.locator("#settings > button").click()
    set_slider(page, "max_new_tokens", 512)
    # At once, as the browser can: a machine that draws in software is slower than the model.
    kept, asked = page.evaluate(
        """async () => {
            const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
            const box = document.querySelector("#question textarea");
            const type = text => {
                Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(box, text);
                box.dispatchEvent(new Event("input", { bubbles: true }));
            };
            type("Talk.");
            await wait(50);
            document.querySelector("#ask").click();
            while (!document.querySelector("#chat .bot p")?.innerText) await wait(5);
            type("And then?");
            await wait(50);
            document.querySelector("#ask").click();
            await wait(50);
            document.querySelector("#stop").click();
            await wait(2000);
            return [box.value, [...document.querySelectorAll("#chat .user p")].map(said => said.innerText)];
        }"""
    )
    assert (kept, asked) == ("And then?", ["Talk."])
    wait_until_quiet(page)
    set_slider(page, "max_new_tokens", 4)
    page.locator("#ask").click()
    expect(page.locator("#chat .user p")).to_have_text(["Talk.", "And then?"])


def test_a_heic_without_a_type_is_refused_by_name(space, visit, tmp_path):
    page = visit(space)
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    page.locator("#pictures input[type=file]").evaluate(
        """input => {
            const list = new DataTransfer();
            list.items.add(new File([new Uint8Array(99).fill(7)], "phone.heic", { type: "" }));
            input.files = list.files;
            input.dispatchEvent(new Event("change", { bubbles: true }));
        }"""
    )
    notice(page, "phone.heic cannot be read as a picture: choose a PNG, JPEG, WebP or AVIF file.")
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)


def test_sliders_change_the_numbers_beside_them(space, visit):
    page = visit(space)
    numbers = [f"#{name}_{key}" for key in ("ptd", "spread") for name in ("mrope", "circle")]
    assert [page.locator(name).inner_text() for name in numbers] == ["0.7383", "0.0000", "0.034", "0.476"]
    mrope = plot_of(page, "logits_plot")[0]
    for slider, value, changed in (("radius", 0, "0.000"), ("alpha", 1, None), ("dff_rate", 0.5, None)):
        page.locator("#reset").click()
        expect(page.locator("#circle_spread")).to_have_text("0.476")
        set_slider(page, slider, value)
        expect(page.locator("#circle_spread")).not_to_have_text("0.476")
        if changed:
            expect(page.locator("#circle_spread")).to_have_text(changed)
    expect(page.locator("#circle_ptd")).not_to_have_text("0.0000")
    assert plot_of(page, "logits_plot")[0] == mrope


def test_attention_is_shown_for_the_word_the_layer_and_the_head_that_are_chosen(space, visit, client, pushed):
    page = visit(space)
    run_tab(page, "attention")
    expect(page.locator("#left_words strong")).to_have_text("M-RoPE")
    expect(page.locator("#right_words")).to_contain_text("AGE strategy_4 answers: a black cross")
    for name in ("left_map", "right_map"):
        expect(page.locator(f"#{name} .layer-below image, #{name} .imagelayer image").first).to_be_attached()
    assert page.locator("#left_all button").count() == page.locator("#right_all button").count() == 6 * 4
    read = "() => JSON.stringify(document.querySelector('#right_map .js-plotly-plot')._fullData[0].z)"
    mean = page.evaluate(read)
    choose(page, "step", "3: cross")
    page.wait_for_function(f"old => ({read})() != old", arg=mean)
    choose(page, "step", "mean")
    page.wait_for_function(f"old => ({read})() == old", arg=mean)
    page.get_by_role("button", name="Layer 2, head 1").last.click()
    expect(page.locator("#layer input")).to_have_value("2")
    expect(page.locator("#head input")).to_have_value("1")
    pictures = [handle_file(str(pushed / "examples" / "shapes_1.png"))]
    expected = client.predict(pictures, "What is below the red circle?", layer=2, head=1, api_name="/attention")
    page.wait_for_function(
        """expected => {
            const shown = document.querySelector("#right_map .js-plotly-plot")._fullData[0].z;
            return expected.every((row, r) => row.every((value, c) => Math.abs(100 * value - shown[r][c]) < 1e-3));
        }""",
        arg=expected["attention"][0],
    )


def test_results_are_announced(space, visit):
    page = visit(space)
    for tab, name, words in (
        ("compare", "verdict", "Right is a black cross, and 3 of 5 geometries say so"),
        ("attention", "right_words", "AGE strategy_4 answers: a black cross"),
    ):
        open_tab(page, tab)
        region = page.locator(f"#{name}[aria-live=polite]")
        region.evaluate(
            """region => {
                window.heard = "";
                const listen = () => { window.heard += region.innerText; };
                new MutationObserver(listen).observe(region, { childList: true, subtree: true, characterData: true });
            }"""
        )
        run_tab(page, tab)
        page.wait_for_function("words => window.heard.includes(words)", arg=words)


def test_a_picture_from_the_clipboard(space, visit):
    page = visit(space)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async () => {
            const picture = await fetch(document.querySelector("#examples img").src);
            const blob = new Blob([await picture.arrayBuffer()], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }"""
    )
    # The keyboard, from anywhere on the page, and the button.
    page.locator("#title").click()
    page.keyboard.press("Control+v")
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
    expect(page.locator("#pictures .thumbnail-item img[src*=image]")).to_have_count(1)
    page.locator("#pictures button[aria-label*='clipboard' i]").first.click()
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(2)
    page.locator("#question textarea").fill("Where is the red circle in the first picture?")
    assert ask(page) == "top right"


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
    expect(page.locator("#circle_ptd")).to_have_text("0.0000")
    run_tab(page, "attention")
    expect(page.locator("#right_words")).to_contain_text(f"AGE strategy_4 answers: {EXAMPLES[number]}\n")
    run_tab(page, "compare")
    answers = page.locator("#cards .answer").all_inner_texts()
    marks = [answer.rsplit(maxsplit=1)[-1] for answer in answers]
    assert answers[-1] == f"{EXAMPLES[number]} right" and set(marks) == {"right", "wrong"}
    assert [mark == "right" for mark in marks] == [answer[:-6] == EXAMPLES[number] for answer in answers]
    expect(page.locator("#verdict")).to_contain_text(f"{marks.count('right')} of 5 geometries say so. Weights")
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
    assert ask(page, "Where is the red circle?") == "I know coloured shapes only. Try: Where is the red circle?"


def test_the_button_asks_and_later_questions_join_the_conversation(space, visit):
    page = visit(space)
    pick_example(page, 0)
    page.locator("#ask").click()
    expect(page.locator("#chat .bot p").first).to_have_text("a black cross")
    wait_until_quiet(page)
    assert ask(page, "Where is the red circle?") == "top right"
    expect(page.locator("#chat .user p")).to_have_text(["What is below the red circle?", "Where is the red circle?"])
    page.locator("#clear").click()
    expect(page.locator("#chat .bot")).to_have_count(0)
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)


def test_a_picture_of_ones_own(space, visit, pushed):
    page = visit(space)
    drop(page, pushed / "examples" / "shapes_3.png")
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
    assert ask(page, "What colour is the triangle?") == "green"


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
    expect(page.locator("#cards [data-geometry=strategy_4] .answer")).to_contain_text("a black cross")
    circle = page.locator("#cards [data-geometry=circle] .ptd")
    expect(circle).to_have_text("PTD 0.0000")
    set_slider(page, "dff_rate", 1)
    expect(circle).not_to_have_text("PTD 0.0000")
    page.locator("#reset").click()
    expect(circle).to_have_text("PTD 0.0000")


def test_several_pictures_and_the_steps_of_a_video_have_rings_of_their_own(space, visit):
    page = visit(space)
    pick_example(page, 3)
    open_tab(page, "see")
    page.wait_for_function("() => document.querySelector('#cone_plot .js-plotly-plot')?._fullData?.length == 4")
    pick_example(page, 4)
    page.wait_for_function("() => document.querySelector('#cone_plot .js-plotly-plot')._fullData[2].name == 'video 1'")
    assert len({tuple(trace["x"]) for trace in plot_of(page, "cone_plot")[2:]}) > 1


def test_hovering_names_the_token(space, visit):
    page = visit(space)
    pick_example(page, 0)
    open_tab(page, "see")
    expect(page.locator("#circle_ptd")).to_be_visible()
    shown = page.evaluate(
        """() => document.querySelector('#cone_plot .js-plotly-plot').data.map(
            trace => (trace.hovertemplate || '') + JSON.stringify((trace.customdata || []).slice(-1)))"""
    )
    assert "row 4, column 4" in shown[2] and "%{customdata[0]}" in shown[2]
    assert "below" in str(page.evaluate("document.querySelector('#cone_plot .js-plotly-plot').data[1].customdata"))


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


def test_colours_follow_the_numbers_in_grey(space, visit):
    """The scales of the rows, which all stand out from the panel, and of the attention get lighter from end to end."""
    page = visit(space)
    run_tab(page, "attention")
    for name, path, least in (("cone_plot", "[2].marker.colorscale", 100), ("right_map", "[0].colorscale", 150)):
        scale = page.evaluate(f"document.querySelector('#{name} .js-plotly-plot')._fullData{path}")
        light = [np.dot(_rgb(colour), [0.2126, 0.7152, 0.0722]) for _, colour in scale]
        assert np.all(np.diff(light) > 0) and light[-1] - light[0] > least


def _rgb(colour):
    parts = (
        colour[4:-1].split(",") if colour.startswith("rgb") else [str(int(colour[n : n + 2], 16)) for n in (1, 3, 5)]
    )
    return [float(part) for part in parts]


def test_a_video_has_one_entry_in_the_legend_and_names_its_steps(space, visit):
    page = visit(space)
    pick_example(page, 4)
    page.wait_for_function("() => document.querySelector('#cone_plot .js-plotly-plot')?._fullData?.length == 4")
    shown = page.evaluate(
        """() => document.querySelector("#cone_plot .js-plotly-plot")._fullData.slice(2).map(
            trace => [trace.name, trace.showlegend, trace.hovertemplate.split("<br>")[0]])"""
    )
    assert shown == [["video 1", True, "video 1, step 1"], ["video 1", False, "video 1, step 2"]]


def test_an_avif_is_taken(space, visit, tmp_path, pushed):
    page = visit(space)
    Image.open(pushed / "examples" / "shapes_3.png").save(tmp_path / "shapes.avif")
    drop(page, tmp_path / "shapes.avif")
    assert ask(page, "What colour is the triangle?") == "green"


def test_a_bad_file_is_named_and_the_page_lives_on(space, visit, bad_files):
    page = visit(space)
    for path, words in bad_files.items():
        drop(page, path)
        notice(page, path.name, words)
        expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)  # the example is still there
    pick_example(page, 0)
    assert ask(page) == EXAMPLES[0]


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
    expect(page.locator("#cone_plot")).to_contain_text("Add a picture or pick an example")


def choose(page, name, option):
    """Choose from a dropdown."""
    page.locator(f"#{name} input").click()
    page.get_by_role("option", name=option, exact=True).click()


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
    assert last_answer(pages[1]) == EXAMPLES[0]
    expect(pages[0].locator("#chat .user p")).to_have_text("What is at the bottom right?")


def test_stop_ends_an_answer_and_the_next_one_comes(endless, visit):
    page = visit(endless)
    expect(page.locator("#about")).to_contain_text("endless")
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
