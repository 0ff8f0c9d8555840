"""The page in a real browser. Headless Chromium has a smallest window, so a phone is a frame of its width."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_comparison import LIMITS, PLAN, rows

from fedmend.comparison.comparison_plan import Axis
from fedmend.pages import ComparisonContents, PageContents, render, render_comparison

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH"),
]

FRAMES = """<!DOCTYPE html><body>{frames}<pre id="out"></pre><script>
addEventListener("load", () => {{
  const seen = [...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument, root = page.documentElement;
    page.querySelectorAll("details").forEach(each => each.open = true);
    const images = [...page.images];
    const outside = [...page.querySelectorAll("body *")].filter(each => {{
      const box = each.getBoundingClientRect();
      return !each.closest(".scroll") && (box.right > frame.clientWidth + 1 || box.left < -1);
    }}).map(each => each.tagName + "." + each.getAttribute("class"));
    return {{
      name: frame.name, width: frame.clientWidth, needed: root.scrollWidth,
      height: root.scrollHeight, outside,
      images: images.length, drawn: images.filter(each => each.complete && each.naturalWidth > 0).length,
      headline: page.querySelector(".verdict h2").innerText,
    }};
  }});
  document.getElementById("out").textContent = JSON.stringify(seen);
}});
</script>"""


def _in_browser(folder: Path, pages: dict[str, tuple[int, str]]) -> dict[str, dict[str, Any]]:
    frames = "".join(
        f'<iframe name="{name}" style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(text)}">'
        "</iframe>"
        for name, (width, text) in pages.items()
    )
    (folder / "frames.html").write_text(FRAMES.format(frames=frames), encoding="utf-8")
    assert CHROMIUM is not None
    run = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-sync",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,900",
            "--dump-dom",
            (folder / "frames.html").as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="out">(.*?)</pre>', run.stdout.decode(), re.DOTALL)
    assert found, run.stderr.decode()[-2000:]
    return {page["name"]: page for page in json.loads(html.unescape(found[1]))}


def test_fits_every_width_and_draws_every_image(made: Any, tmp_path: Path) -> None:
    full = render(made.everything())
    names = ("W" * 120, "a name of many words <b>in bold</b> " * 4)
    long = made.finding(
        "clean",
        detector="D" * 90,
        measures=(made.measure(name="M" * 60, reading="R" * 90),),
    )
    long_names = render(
        made.everything(
            title="T" * 90,
            scan=made.scan(
                class_names=names, findings=(made.finding(), long, made.finding("clean", targets=()))
            ),
            attacks=(made.attack(attackers="A" * 90), made.attack(patch=None, trigger={"kind": "K" * 90})),
            attacked_rounds=made.attacked_rounds(attacks=2),
        )
    )
    details = made.pruning(channels=128, layer="layer" * 30, refused={"R" * 90: 1})
    wide = render(made.everything(repair=made.pruned(details), prune_evaluation=made.prune_evaluation()))
    far = tuple(made.found(source, 0, 0.9, pixels=((100, 10_000), (9, 223))) for source in range(1, 12))
    found = made.everything(repair=made.pruned(made.unadjusted(triggers=far)))
    small = replace(found, scan=None, repair=made.pruned(), prune_evaluation=made.prune_evaluation())
    seen = _in_browser(
        tmp_path,
        {
            "desktop": (1280, full),
            "tablet": (768, full),
            "phone": (390, full),
            "small": (320, full),
            "long": (1280, long_names),
            "long tablet": (600, long_names),
            "long phone": (390, long_names),
            "long small": (320, long_names),
            "pruned": (1280, wide),
            "pruned tablet": (600, wide),
            "pruned phone": (390, wide),
            "pruned small": (320, render(small)),
            "found": (1280, render(found)),
            "found phone": (390, render(replace(found, scan=made.scan(class_names=names)))),
            "found small": (320, render(replace(found, scan=None))),
            "bare": (390, render(PageContents("only a title"))),
        },
    )
    for page in seen.values():
        assert page["needed"] <= page["width"], page
        assert page["outside"] == [], page
        assert page["drawn"] == page["images"], page
    assert seen["desktop"]["images"] == 4 + 16
    assert seen["phone"]["headline"] == "Backdoor found"
    assert seen["phone"]["height"] > seen["desktop"]["height"] > 1500


def test_a_comparison_fits_every_width(tmp_path: Path) -> None:
    plan = replace(PLAN, axes=(Axis("A" * 40, {"v" * 60: {}}), *PLAN.axes))
    contents = ComparisonContents("comparison", rows(), LIMITS, 10, 10, settings=PLAN.base)
    long = replace(contents, title="T" * 90, rows=rows(plan), settings={"S" * 90: "s" * 90})
    pages = {"usual": render_comparison(contents), "long": render_comparison(long)}
    seen = _in_browser(
        tmp_path,
        {f"{name} {width}": (width, text) for name, text in pages.items() for width in (1280, 768, 390, 320)},
    )
    for page in seen.values():
        assert page["needed"] <= page["width"], page
        assert page["outside"] == [], page
    assert seen["usual 390"]["headline"] == "1 of 4 combinations misses a limit"
