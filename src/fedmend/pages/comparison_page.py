"""The page of a comparison."""

from __future__ import annotations

from fedmend.pages import words
from fedmend.pages.comparison_view import ComparisonContents, view_of_comparison
from fedmend.pages.rendering import environment


def render_comparison(contents: ComparisonContents) -> str:
    """Render a comparison as one HTML text that needs no other file and no network."""
    settings = list(words.flatten(contents.settings))
    return (
        environment()
        .get_template("comparison.html")
        .render(
            contents=contents,
            view=view_of_comparison(contents),
            settings=[("Base", settings)] if settings else [],
            versions=contents.versions,
        )
    )
