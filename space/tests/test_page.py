"""The page in a real browser, as a visitor uses it."""

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from browser import ANSWERS, ask, last_answer, open_tab, pick_example, plot_of, set_slider, wait_until_quiet


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
    assert ask(page) == ANSWERS[0]


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
    assert ask(page) == ANSWERS[0]


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
    assert last_answer(pages[1]) == ANSWERS[0]
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
