"""Pages as HTML, and those that are written as Markdown and shown as HTML too."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import jinja2
from markdown_it import MarkdownIt

BASE = jinja2.PackageLoader("resnet_keras.files", "templates")


def html_templates(package: str) -> jinja2.Environment:
    """The HTML templates of a package, by its name, which may extend page.html.j2."""
    own = jinja2.PackageLoader(package, "templates")
    return jinja2.Environment(loader=jinja2.ChoiceLoader([own, BASE]), autoescape=True)


def templates(place: str | Path) -> jinja2.Environment:
    """The Markdown templates of a package, by its name, or in a folder."""
    is_folder = isinstance(place, Path)
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(place)
        if is_folder
        else jinja2.PackageLoader(place, "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def to_html(markdown: str, title: str) -> str:
    """A whole HTML page of some Markdown, whose own HTML is shown as it stands."""
    page = jinja2.Environment(loader=BASE, autoescape=True).get_template("markdown.html.j2")
    return page.render(title=title, body=to_fragment(markdown))


def to_fragment(markdown: str) -> str:
    """The HTML of some Markdown without a page around it; HTML in it is shown as it stands."""
    return MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table as Markdown.

    Args:
        columns: heads.
        rows: of cells.
        words: how many of the columns hold words; the others hold figures, and are aligned so.
    """
    lines = [columns, [*words * ["---"], *(len(columns) - words) * ["---:"]], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
