"""The documentation: Markdown pages, readable in the repository and served by the daemon.

`pages()` lists them in reading order, `render(name)` gives one as HTML. What of them is made from the models, the
settings and the command line, `api.docs.reference` writes (`make docs`).
"""

from api.docs.contents import Page, pages
from api.docs.rendering import Heading, Rendered, UnknownPage, render

__all__ = ["Heading", "Page", "Rendered", "UnknownPage", "pages", "render"]
