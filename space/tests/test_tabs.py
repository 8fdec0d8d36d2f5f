"""The cone, attention and the comparison, in a real browser."""

import numpy as np
import pytest
from gradio_client import handle_file
from playwright.sync_api import expect

from browser import ANSWERS, ask, open_tab, pick_example, plot_of, run_tab, set_slider, wait_until_quiet


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


def choose(page, name, option):
    """Choose from a dropdown."""
    page.locator(f"#{name} input").click()
    page.get_by_role("option", name=option, exact=True).click()


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


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_an_example_is_answered_on_every_tab(space, visit, number):
    page = visit(space)
    pick_example(page, number)
    run_tab(page, "see")
    expect(page.locator("#circle_ptd")).to_have_text("0.0000")
    run_tab(page, "attention")
    expect(page.locator("#right_words")).to_contain_text(f"AGE strategy_4 answers: {ANSWERS[number]}\n")
    run_tab(page, "compare")
    answers = page.locator("#cards .answer").all_inner_texts()
    marks = [answer.rsplit(maxsplit=1)[-1] for answer in answers]
    assert answers[-1] == f"{ANSWERS[number]} right" and set(marks) == {"right", "wrong"}
    assert [mark == "right" for mark in marks] == [answer[:-6] == ANSWERS[number] for answer in answers]
    expect(page.locator("#verdict")).to_contain_text(f"{marks.count('right')} of 5 geometries say so. Weights")
    assert ask(page) == ANSWERS[number]
    assert "AGE strategy_4" in page.locator("#chat .bot").inner_text()


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
