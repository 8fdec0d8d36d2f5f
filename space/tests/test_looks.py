"""Words, sizes, keyboard and names: the page for every visitor, in a real browser."""

import pytest
from playwright.sync_api import expect

from browser import PATIENCE, open_tab, pick_example, run_tab, wait_until_quiet


def test_everything_is_said_in_chinese_too(space, visit):
    page = visit(space, lang="zh")
    expect(page.locator("#ask")).to_have_text("提问")
    page.locator("#question textarea").press("Enter")
    expect(page.locator("#chat .bot")).to_contain_text("问题为空")
    page.get_by_label("English").click()
    expect(page.locator("#ask")).to_have_text("Ask")
    expect(page.locator("#tabs button[role=tab]").nth(2)).to_have_text("See")


@pytest.mark.parametrize("width, height", [(390, 844), (1280, 900)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_words_can_be_read(space, visit, width, height, scheme):
    page = visit(space, width=width, height=height, scheme=scheme)
    pick_example(page, 0)
    for tab in ("ask", "compare", "see"):
        run_tab(page, tab)
        wait_until_quiet(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for plot in page.locator(".js-plotly-plot").all():
            box = plot.bounding_box()
            assert box is None or box["x"] >= 0 and box["x"] + box["width"] <= width
    font = page.evaluate("document.querySelector('#circle_plot .js-plotly-plot')._fullLayout.font.color")
    assert font == {"light": "#27272a", "dark": "#e4e4e7"}[scheme]


def test_the_keyboard_is_enough(space, visit):
    page = visit(space)
    page.locator("#examples button").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#question textarea")).to_have_value("Where is the red circle?")
    page.locator("#question textarea").focus()
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["ask", "stop", "clear"]


def test_every_control_has_a_name(space, visit):
    page = visit(space)
    for tab in ("ask", "compare", "see"):
        open_tab(page, tab)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('input, textarea, select, button')].filter(element =>
                element.offsetParent && element.type != 'file' && !(element.labels?.length || element.ariaLabel
                || element.textContent.trim() || element.title || element.getAttribute('aria-labelledby'))
            ).map(element => element.outerHTML.slice(0, 200))"""
        )
        assert nameless == []


def test_nothing_comes_from_elsewhere_and_nothing_fails_in_the_browser(space, browser):
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    foreign, errors = [], []
    page.on("request", lambda request: foreign.append(request.url) if _is_foreign(request.url, space.url) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(space.url)
    pick_example(page, 0)
    for tab in ("ask", "compare", "see"):
        run_tab(page, tab)
    context.close()
    assert (foreign, errors) == ([], [])


def _is_foreign(url, home):
    return not url.startswith((home, "data:", "blob:"))
