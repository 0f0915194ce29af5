"""What must hold of every site that ``docs.pages`` writes."""

import re
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup

from tests.browser import finding

WIDTHS = (375, 800, 1400)


def faults(book: Path) -> list[str]:
    """Links that lead nowhere, anchors that stand twice, and whatever a page would load from outside its folder."""
    soups = {path.name: BeautifulSoup(path.read_text(), "html.parser") for path in sorted(book.glob("*.html"))}
    anchors = {name: [part["id"] for part in soup.select("[id]")] for name, soup in soups.items()}
    wrong = []
    for name, soup in soups.items():
        wrong += [f"{name}: #{anchor} stands twice" for anchor in set(anchors[name]) if anchors[name].count(anchor) > 1]
        for link in soup.select("a[href]"):
            place, _, fragment = unquote(link["href"]).partition("#")
            target = place or name
            outward = "://" in place
            if not outward and (not (book / target).is_file() or fragment and fragment not in anchors[target]):
                wrong.append(f"{name}: {link['href']} leads nowhere")
        for part in soup.select("[src], link[href], [srcset], [data], [poster]"):
            loaded = str(part.get("src") or part.get("href") or part)
            if not loaded.startswith("data:") and not (book / loaded).is_file():
                wrong.append(f"{name} loads {loaded[:100]}")
        for part in soup.select("style, script"):
            wrong += [f"{name} names an address: {part}"[:200]] if "://" in part.text else []
    return wrong + [path.name for path in book.glob("*.css") if "url(" in path.read_text()]


def looked_at(book: Path, words: tuple[str, ...], target: str) -> list[str]:
    """Open every page in Chromium, the network cut, at three widths; search ``words`` and follow a hit to ``target``.

    What was asked of the network, said on the console, or wider than the screen.
    """
    from playwright.sync_api import sync_playwright

    complaints = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=finding.chromium())
        tab = browser.new_page()
        tab.set_default_timeout(15_000)
        tab.route(re.compile("^(?!file:|data:)"), lambda route: route.abort())
        tab.on("requestfailed", lambda request: complaints.append(request.url[:200]))
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        for path in sorted(book.glob("*.html")):
            tab.goto(path.as_uri())
            for width in WIDTHS:
                tab.set_viewport_size({"width": width, "height": 900})
                wide = tab.evaluate("document.documentElement.scrollWidth")
                complaints += [f"{path.name} is {wide} px wide on a screen of {width}"] if wide > width else []
        tab.goto((book / "index.html").as_uri())
        tab.keyboard.press("/")
        tab.keyboard.type(" ".join(words))
        hit = tab.locator(f"#hits a[href^='{target}#']").first
        if not {mark.lower() for mark in hit.locator("mark").all_text_contents()} & set(words):
            complaints.append(f"the hit shows none of {words}")
        hit.click()
        tab.wait_for_selector(".jp-Cell:target")
        browser.close()
    return complaints
