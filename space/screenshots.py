"""Take screenshots of every tab: phone and desktop, light and dark, English and Chinese.

python space/screenshots.py --output-dir DIR
"""

import argparse
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from browser import CHROMIUM, TABS, launch, open_page, pick_example, run_tab, serve, wait_until_quiet

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def take(page: Page, path: Path, full: bool) -> None:
    """One screenshot, of the whole length of the page or of what a screen shows."""
    wait_until_quiet(page)
    page.screenshot(path=path, full_page=full)
    print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--chromium", default=CHROMIUM, help="the browser's program")
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    with serve() as url, sync_playwright() as playwright, launch(playwright, args.chromium) as browser:
        for device, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                for lang in ("en", "zh"):
                    page = open_page(browser, url, width=width, height=height, scheme=scheme, lang=lang)
                    name = f"{device}_{scheme}_{lang}"
                    take(page, args.output_dir / f"{name}_start.png", full=True)
                    pick_example(page, 0)
                    for tab in TABS:
                        run_tab(page, tab)
                        take(page, args.output_dir / f"{name}_{tab}.png", full=True)
                    page.context.close()


if __name__ == "__main__":
    main()
