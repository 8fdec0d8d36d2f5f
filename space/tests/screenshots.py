"""Take screenshots of every tab: phone and desktop, light and dark, English and Chinese.

python space/tests/screenshots.py --output-dir DIR   # all of them
python space/tests/screenshots.py --figures          # those of the READMEs
"""

import argparse
import itertools
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from browser import CHROMIUM, HERE, TABS, ask, launch, open_page, run_tab, serve, wait_until_quiet

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def take(page: Page, path: Path, full: bool = True) -> None:
    """One screenshot, of the whole length of the page or of what the screen shows, in 256 colours."""
    wait_until_quiet(page)
    page.mouse.move(0, 0)
    page.screenshot(path=path, full_page=full)
    Image.open(path).convert("RGB").quantize(256, kmeans=2).save(path, optimize=True)
    print(path)


def take_all(browser, url: str, directory: Path) -> None:
    """Every tab on every device, in both schemes and languages."""
    directory.mkdir(parents=True, exist_ok=True)
    for (device, size), scheme, lang in itertools.product(SIZES.items(), ("light", "dark"), ("en", "zh")):
        page = open_page(browser, url, *size, scheme=scheme, lang=lang)
        take(page, directory / f"{device}_{scheme}_{lang}_start.png")
        ask(page)
        for tab in TABS:
            run_tab(page, tab)
            take(page, directory / f"{device}_{scheme}_{lang}_{tab}.png")
        page.context.close()


def take_figures(browser, url: str) -> None:
    """The two pictures of the READMEs, and the one that links to the Space are shown with."""
    page = open_page(browser, url, width=1280, height=900)
    ask(page)
    take(page, HERE / "screenshots" / "see.png", full=False)
    page.set_viewport_size({"width": 1280, "height": 672})
    take(page, HERE / "thumbnail.png", full=False)
    page.context.close()
    page = open_page(browser, url, width=1280, height=900, scheme="dark")
    run_tab(page, "compare")
    take(page, HERE / "screenshots" / "compare.png", full=False)
    page.context.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, help="where screenshots of everything go")
    parser.add_argument("--figures", action="store_true", help="take those that are part of the repo")
    parser.add_argument("--chromium", default=CHROMIUM, help="the browser's program")
    args = parser.parse_args()
    if not args.figures and args.output_dir is None:
        parser.error("give --output-dir DIR, --figures, or both")
    with serve() as url, sync_playwright() as playwright:
        browser = launch(playwright, args.chromium)
        if args.output_dir is not None:
            take_all(browser, url, args.output_dir)
        if args.figures:
            take_figures(browser, url)
        browser.close()


if __name__ == "__main__":
    main()
