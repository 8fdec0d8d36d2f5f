"""A visitor who does not wait for a slow line: nothing that was asked is lost, and nothing is asked twice."""

import contextlib

from playwright.sync_api import expect

from browser import ask, open_tab, pick_example, set_slider, wait_until_quiet


@contextlib.contextmanager
def slow_line(page):
    """What the page sends to the queue in here arrives when the context ends; `release()` lets later requests pass."""
    held, passing = [], []
    page.route("**/queue/join*", lambda route: route.continue_() if passing else held.append(route))

    def release(wanted=1):
        while len(held) < wanted:
            page.wait_for_timeout(50)
        passing.append(True)

    yield release
    passing.append(True)
    for route in held:
        with page.expect_response(lambda response, sent=route.request: response.request == sent):
            route.continue_()
    wait_until_quiet(page)


def test_a_question_right_after_an_upload_is_answered(space, visit, pushed):
    page = visit(space)
    with slow_line(page) as release:
        page.locator("#pictures input[type=file]").set_input_files(pushed / "examples" / "shapes_3.png")
        expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
        release(wanted=2)  # the check of the file, and what the page does about a change of the pictures
        assert ask(page, "What colour is the triangle?") == "green"
    assert ask(page, "Where is the triangle?")
    expect(page.locator("#chat .user p")).to_have_text(["What colour is the triangle?", "Where is the triangle?"])


def test_answers_go_on_when_the_check_of_their_picture_ends(endless, visit, pushed):
    page = visit(endless)
    page.locator("#settings > button").click()
    set_slider(page, "max_new_tokens", 256)  # five times; longer than the check, shorter than the patience
    open_tab(page, "compare")
    with slow_line(page) as release:
        page.locator("#pictures input[type=file]").set_input_files(pushed / "examples" / "shapes_3.png")
        release(wanted=2)
        page.locator("#compare").click()
        expect(page.locator("#cards .pending")).to_have_count(5)
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
    expect(page.locator("#pictures .thumbnail-item img[src*='shapes_3.png']")).to_have_count(1)
    expect(page.locator("#cards .answer:not(:empty)")).to_have_count(5)
    expect(page.locator("#cards .pending")).to_have_count(0)


def test_a_second_file_may_come_while_the_first_is_checked(space, visit, pushed, bad_files):
    page = visit(space)
    with slow_line(page):
        for path in (next(path for path in bad_files if path.stem == "text"), pushed / "examples" / "shapes_3.png"):
            before = page.locator("#pictures .thumbnail-item").count()
            page.locator("#pictures input[type=file]").set_input_files(path)
            expect(page.locator("#pictures .thumbnail-item")).to_have_count(before + 1)
    expect(page.locator(".toast-message-item").first).to_contain_text("text.png cannot be read as a picture")
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(1)
    expect(page.locator("#pictures .thumbnail-item img[src*='shapes_3.png']")).to_have_count(1)
    assert ask(page, "What colour is the triangle?") == "green"


def test_other_pictures_begin_a_new_conversation_at_once(space, visit):
    page = visit(space)
    pick_example(page, 0)
    ask(page)
    with slow_line(page) as release:
        page.locator("#pictures button[aria-label='Clear']").first.click()
        release()
        page.locator("#question textarea").fill("What is there?")
        page.locator("#question textarea").press("Enter")
        expect(page.locator("#chat .user p")).to_have_text(["What is there?"])
        wait_until_quiet(page)
    expect(page.locator("#chat .user p")).to_have_text(["What is there?"])


def test_leaving_the_question_while_the_plots_are_drawn_does_not_ask_again(space, visit):
    page = visit(space)
    pick_example(page, 0)
    page.locator("#question textarea").press("Enter")
    expect(page.locator("#chat .bot small")).to_have_count(1)
    with slow_line(page):
        page.locator("#tabs button[role=tab]").nth(2).click()
        page.wait_for_timeout(500)
    expect(page.locator("#tabs button[role=tab]").nth(2)).to_have_attribute("aria-selected", "true")
    ask(page, "Where is the red circle?")
    expect(page.locator("#chat .user p")).to_have_text(["What is below the red circle?", "Where is the red circle?"])
    expect(page.locator("#chat")).not_to_contain_text("The question is empty")
