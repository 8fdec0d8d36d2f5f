"""Words, sizes, keyboard and names: the page for every visitor, in a real browser."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from browser import PATIENCE, TABS, ask, open_tab, pick_example, run_tab, wait_until_quiet


def test_what_the_model_knows_is_said_and_asked_in_the_language_of_the_page(space, visit):
    for lang, words, question, answer in (
        ("zh", "中英文都可以问", "红色圆形在哪里？", "右上"),
        ("en", "in English and Chinese", "Where is the red circle?", "top right"),
    ):
        page = visit(space, lang=lang)
        expect(page.locator("#about")).to_contain_text(words)
        assert ask(page, question) == answer


def test_everything_is_said_in_chinese_too(space, visit):
    page = visit(space, lang="zh")
    expect(page.locator("#ask")).to_have_text("提问")
    page.locator("#question textarea").fill("")
    page.locator("#question textarea").press("Enter")
    expect(page.locator("#chat .bot")).to_contain_text("问题为空")
    page.get_by_label("English").click()
    expect(page.locator("#ask")).to_have_text("Ask")
    expect(page.locator("#tabs button[role=tab]").nth(0)).to_have_text("The cone")


@pytest.mark.parametrize("lang, words", [("en", "is empty: choose another file"), ("zh", "是空文件：请另选一个")])
def test_a_note_is_in_the_language_of_the_page(space, visit, bad_files, lang, words):
    page = visit(space, lang={"en": "zh", "zh": "en"}[lang])
    page.get_by_label({"en": "English", "zh": "中文"}[lang]).click()
    expect(page.locator("html")).to_have_attribute("lang", lang)
    wait_until_quiet(page)
    empty = next(path for path in bad_files if path.stem == "empty")
    page.locator("#pictures input[type=file]").set_input_files(empty)
    expect(page.locator(".toast-message-text")).to_contain_text(words)


@pytest.mark.parametrize("width, height", [(1440, 900), (1280, 720)])
def test_sliders_numbers_and_strip_are_beside_the_cone(space, visit, width, height):
    page = visit(space, width=width, height=height)
    for name in ("#cone_plot", "#radius", "#alpha", "#dff_rate", "#numbers", "#strip_plot"):
        expect(page.locator(name)).to_be_in_viewport(ratio=0.5 if name == "#strip_plot" else 1)
    cone, radius = (page.locator(name).bounding_box() for name in ("#cone_plot", "#radius"))
    assert cone["x"] + cone["width"] <= radius["x"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_mark_stands_out_from_its_panel(space, visit, scheme):
    """3:1 at least, of the colours that the browser computes."""
    page = visit(space, scheme=scheme)
    panel = page.locator("#cone_plot").evaluate(
        """element => {
            const colour = () => getComputedStyle(element).backgroundColor;
            while (/, 0\\)$/.test(colour())) element = element.parentElement;
            return colour();
        }"""
    )
    colours = page.evaluate(
        """() => ["cone_plot", "strip_plot", "logits_plot"].flatMap(id =>
            document.querySelector(`#${id} .js-plotly-plot`)._fullData.flatMap(trace => [
                ...(trace.mode.includes("markers") ? trace.marker.colorscale?.map(stop => stop[1])
                    ?? [trace.marker.color] : []),
                ...(trace.mode.includes("lines") ? [trace.line.color] : [])]))"""
    )
    assert len(colours) > 20 and not [colour for colour in colours if _contrast(colour, panel) < 3]


def _contrast(*colours):
    def light(colour):
        parts = re.findall(r"[\d.]+", colour) if colour.startswith("rgb") else re.findall("[0-9a-f]{2}", colour)
        shares = [(float(part) if colour.startswith("rgb") else int(part, 16)) / 255 for part in parts[:3]]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    low, high = sorted(map(light, colours))
    return high / low


def test_on_a_touch_screen_nothing_lies_over_the_legend(space, visit):
    page = visit(space, width=390, height=844, has_touch=True)
    for name in ("cone_plot", "logits_plot"):
        page.locator(f"#{name} .legend").scroll_into_view_if_needed()
        legend = page.locator(f"#{name} .legend").bounding_box()
        assert legend["width"] > 0
        for button in page.locator(f"#{name} .modebar-btn").all():
            box = button.bounding_box()
            assert box is None or box["y"] + box["height"] <= legend["y"] or legend["y"] + legend["height"] <= box["y"]


@pytest.mark.parametrize("width, height", [(390, 844), (1280, 900)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_words_can_be_read(space, visit, width, height, scheme):
    page = visit(space, width=width, height=height, scheme=scheme)
    pick_example(page, 0)
    ask(page)
    for tab in TABS:
        run_tab(page, tab)
        wait_until_quiet(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for plot in page.locator(".js-plotly-plot").all():
            box = plot.bounding_box()
            assert box is None or box["x"] >= 0 and box["x"] + box["width"] <= width
    font = page.evaluate("document.querySelector('#cone_plot .js-plotly-plot')._fullLayout.font.color")
    assert font == {"light": "#27272a", "dark": "#e4e4e7"}[scheme]


def test_the_keyboard_is_enough(space, visit):
    page = visit(space)
    page.locator("#examples button").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#question textarea")).to_have_value("What is below the red circle?")
    page.locator("#question textarea").focus()
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["ask", "stop", "clear"]


def test_arrow_keys_go_from_tab_to_tab(space, visit):
    page = visit(space)
    tabs = page.locator("#tabs button[role=tab]")
    tabs.first.focus()
    for key, number in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowRight", 0), ("ArrowLeft", 2)):
        page.keyboard.press(key)
        expect(tabs.nth(number)).to_have_attribute("aria-selected", "true")
        expect(tabs.nth(number)).to_be_focused()


def test_what_has_the_focus_can_be_seen(space, visit):
    page = visit(space)
    outline = """() => {
        const element = document.activeElement;
        return [element, element.closest("label")].filter(Boolean).map(one => getComputedStyle(one))
            .some(style => style.outlineStyle == "solid" && parseFloat(style.outlineWidth) >= 2);
    }"""
    for name in (
        "#language input",
        "#view input",
        "#tabs button",
        "#radius input[type=range]",
        "#ask",
        "#question textarea",
    ):
        page.locator(name).first.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert page.evaluate(outline), name


def test_the_page_keeps_its_width(space, visit):
    page = visit(space)
    width = "() => document.querySelector('.gradio-container').getBoundingClientRect().width"
    before = page.evaluate(width)
    page.locator("#pictures button[aria-label='Clear']").first.click()
    expect(page.locator("#pictures .thumbnail-item")).to_have_count(0)
    wait_until_quiet(page)
    assert page.evaluate(width) == before


def test_on_a_phone_one_line_and_the_cone_come_first_and_nothing_is_cut(space, visit):
    page = visit(space, width=390, height=844)
    names = ("#title", "#intro", "#cone_plot", "#pictures", "#question", "#chat", "#radius")
    tops = [page.locator(name).bounding_box()["y"] for name in names]
    assert tops == sorted(tops)
    for name in ("#intro p", "#cone_plot"):
        expect(page.locator(name).first).to_be_in_viewport(ratio=1)
    assert page.locator("#intro").bounding_box()["height"] < 60
    for button in page.locator("#buttons button, #examples button").all():
        assert button.evaluate("b => b.scrollWidth <= b.clientWidth && parseFloat(getComputedStyle(b).fontSize) >= 12")
        assert button.inner_text().strip()
    ask(page)
    for name in ("#question textarea", "#stop", "#chat .bot"):
        expect(page.locator(name).last).to_be_in_viewport()


@pytest.mark.parametrize("scheme, lang, width", [("light", "en", 1280), ("dark", "zh", 390)])
def test_axe_finds_nothing_serious(space, visit, scheme, lang, width):
    """Contrast, headings, roles and names among the rest; what gradio itself draws is not ours."""
    page = visit(space, scheme=scheme, lang=lang, width=width)
    ask(page, "Where is the red circle?")
    found = []
    for tab in TABS:
        run_tab(page, tab)
        wait_until_quiet(page)
        for violation in Axe().run(page).response["violations"]:
            if violation["impact"] in ("serious", "critical", "moderate"):
                nodes = [node["html"][:200] for node in violation["nodes"] if "icon-button" not in node["html"]]
                found += [(tab, violation["id"], node) for node in nodes]
    assert found == []


def test_every_control_has_a_name(space, visit):
    page = visit(space)
    for tab in TABS:
        open_tab(page, tab)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('input, textarea, select, button')].filter(element =>
                element.offsetParent && element.type != 'file' && !(element.labels?.length || element.ariaLabel
                || element.textContent.trim() || element.title || element.getAttribute('aria-labelledby'))
            ).map(element => element.outerHTML.slice(0, 200))"""
        )
        assert nameless == []


def test_plots_are_figures_with_names(space, visit):
    page = visit(space)
    run_tab(page, "attention")
    for name in ("M-RoPE answers:", "AGE strategy_4 answers:"):
        expect(page.get_by_role("figure", name=name)).to_be_visible()
    open_tab(page, "see")
    for name in (
        "Per-Token Distance 0.7383 0.0000",
        "How far each token of the picture is",
        "What attention sees of it",
    ):
        expect(page.get_by_role("figure", name=name)).to_be_visible()


def test_nothing_comes_from_elsewhere_and_nothing_fails_in_the_browser(space, browser):
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    foreign, errors = [], []
    page.on("request", lambda request: foreign.append(request.url) if _is_foreign(request.url, space.url) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(space.url)
    pick_example(page, 0)
    ask(page)
    for tab in TABS:
        run_tab(page, tab)
    context.close()
    assert (foreign, errors) == ([], [])


def _is_foreign(url, home):
    return not url.startswith((home, "data:", "blob:"))
