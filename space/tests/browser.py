"""Start the Space and drive it in headless Chromium, as the screenshots and the tests do."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

HERE = Path(__file__).resolve().parent.parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
# WebGL runs in software; nothing is fetched in the background.
FLAGS = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
TABS = ("see", "attention", "compare")
# The right answers about the examples, in their order.
ANSWERS = [
    "a black cross",
    "blue circle, yellow triangle, green square, purple cross",
    "a black cross",
    "bottom left",
    "top right",
]
PATIENCE = 60_000  # milliseconds: for a slow machine, not for the app


@contextlib.contextmanager
def serve(
    app: Path = HERE / "app.py",
    log: Path | None = None,
    port: int | None = None,
    launcher: Path | None = None,
    **environment: str,
):
    """Run the app, on a free port unless one is given, and yield its address; the process ends with the context."""
    port = port or _free_port()
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", **environment}
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(open(log, "wb")) if log else subprocess.DEVNULL
        command = [sys.executable, *map(str, filter(None, (launcher, app)))]
        process = subprocess.Popen(command, env=environment, cwd=app.parent, stdout=output, stderr=subprocess.STDOUT)
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(300)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(url, process):
    for _ in range(1500):
        if process.poll() is not None:
            raise RuntimeError(f"the app ended with {process.returncode} before it answered")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the app did not answer within five minutes")


def launch(playwright, chromium: str = CHROMIUM) -> Browser:
    """Headless Chromium, as Debian or anybody else packs it."""
    return playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))


def open_page(
    browser: Browser,
    url: str,
    width: int = 1280,
    height: int = 900,
    scheme: str = "light",
    lang: str = "en",
    has_touch: bool = False,
) -> Page:
    """A fresh visitor's page, ready to be used."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        locale={"en": "en-GB", "zh": "zh-CN"}[lang],
        has_touch=has_touch,
    )
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page = context.new_page()
    page.goto(url)
    # The page has been read, and the empty plots and the language are in place.
    tab = {"en": "The cone", "zh": "圆锥"}[lang]
    expect(page.locator("#tabs button[role=tab]").first).to_have_text(tab)
    plot_of(page, "cone_plot")
    wait_until_quiet(page)
    return page


def wait_until_quiet(page: Page) -> None:
    """Wait until no component shows that it is being computed."""
    page.wait_for_function(
        "() => !document.querySelector('.generating, .wrap.full:not(.hide), .pending, .progress-text:not(:empty)')"
    )


def pick_example(page: Page, number: int) -> None:
    """Choose an example and wait until its picture and question are there."""
    button = page.locator("#examples button").nth(number)
    button.click()
    expect(page.locator("#question textarea")).to_have_value(button.inner_text().strip())
    expect(page.locator("#pictures .thumbnail-item")).not_to_have_count(0)


def open_tab(page: Page, tab: str) -> None:
    """Show a tab."""
    button = page.locator("#tabs button[role=tab]").nth(TABS.index(tab))
    button.click()
    expect(button).to_have_attribute("aria-selected", "true")
    if tab == "see":
        for plot in ("cone_plot", "strip_plot"):
            page.wait_for_function(f"() => document.querySelector('#{plot} .js-plotly-plot')?._fullData")
    wait_until_quiet(page)


def set_slider(page: Page, name: str, value: float) -> None:
    """Type a value into a slider's number."""
    number = page.locator(f"#{name} input[type=number]")
    number.fill(str(value))
    number.press("Enter")


def ask(page: Page, question: str | None = None) -> str:
    """Send the question in the box, or another, and return the answer."""
    before = page.locator("#chat .bot small").count()
    if question is not None:
        page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")
    expect(page.locator("#chat .bot small")).to_have_count(before + 1)
    expect(page.locator("#question textarea")).to_have_value("")
    wait_until_quiet(page)
    return last_answer(page)


def last_answer(page: Page) -> str:
    """The words of the newest answer."""
    return page.locator("#chat .bot").last.locator("p").first.inner_text().strip()


def run_tab(page: Page, tab: str) -> None:
    """Do what a tab is for, with what is in the input."""
    open_tab(page, tab)
    if tab == "see":
        expect(page.locator("#cone_plot .js-plotly-plot canvas").first).to_be_visible()
    elif tab == "attention":
        page.locator("#attend").click()
        expect(page.locator("#right_words strong")).to_be_visible()
        expect(page.locator("#right_map .js-plotly-plot .heatmaplayer image")).to_be_visible()
        expect(page.locator("#right_all button").first).to_be_visible()
    else:
        page.locator("#compare").click()
        expect(page.locator("#cards .card footer .ptd")).to_have_count(5)
        expect(page.locator("#cards .pending")).to_have_count(0)


def plot_of(page: Page, name: str) -> list:
    """The traces that a plot shows, as soon as it does: their names and x, y, z values."""
    page.wait_for_function(f"() => document.querySelector('#{name} .js-plotly-plot')?._fullData?.length")
    return page.evaluate(
        """name => document.querySelector(`#${name} .js-plotly-plot`)._fullData.map(
            trace => ({name: trace.name, x: [...trace.x], y: [...trace.y], z: [...(trace.z ?? [])]}))""",
        name,
    )
