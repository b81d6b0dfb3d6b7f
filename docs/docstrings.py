"""Docstrings as the pages want them: Google sections and Markdown inside, reStructuredText out.

Text keeps its words: what reStructuredText would read as markup (`*`, `|`, `_`) is escaped. `code` becomes a literal,
or a link where it is a public name; [text](address) becomes a link; an indented block outside a section is a formula.
"""

import re

SECTIONS = {"Args", "Attributes", "Example", "Raises", "Reference", "References", "Returns", "Warns", "Yields"}
TOKEN = re.compile(
    r"(?P<code>`[^`]+`)|\[(?P<text>[^\]]+)\]\((?P<link>https?://(?:[^()\s]|\([^()\s]*\))+)\)|(?P<url>https?://[^\s;,]+)",
    re.DOTALL,
)
ITEM = re.compile(r"^    [\w.]+: ")


def to_rst(lines, links=None):
    """Lines of a docstring as lines of reStructuredText with Google sections.

    Args:
        lines: the docstring, without its indentation.
        links: public name -> target of a link to it.
    """
    out, inside = [], False
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        first = block.split("\n", 1)[0]
        if head := first.rstrip(":") in SECTIONS and first.endswith(":"):
            inside = True
        elif not first.startswith(" "):
            inside = False
        if first.lstrip().startswith(">>> "):
            out.append(block)
        elif first.startswith("    ") and not inside:
            out.append("::\n\n" + block)
        elif head:
            out.append(first + "\n" + _section(block.partition("\n")[2], links or {}))
        else:
            out.append(_section(block, links or {}) if inside else _text(block, links or {}))
    return "\n\n".join(out).split("\n")


def _section(block, links):
    """The items of a section, whose names stay as they are; doctests stay too."""
    if block.lstrip().startswith(">>> "):
        return block
    items = re.split(r"\n(?=    \S)", block) if ITEM.match(block) else [block]
    kept = []
    for item in items:
        name = found[0] if (found := ITEM.match(item)) else ""
        kept.append(name + _text(item[len(name) :], links))
    return "\n".join(kept)


def _text(text, links):
    """Text with its code and links, the rest escaped."""
    out, at = [], 0
    for token in TOKEN.finditer(text):
        out += [_escaped(text[at : token.start()]), _token(token, links)]
        at = token.end()
    return "".join([*out, _escaped(text[at:])])


def _token(token, links):
    if code := token["code"]:
        name = code.strip("`")
        return f":py:obj:`{name} <{links[name]}>`" if name in links else f"``{name}``"
    if token["link"]:
        return f"`{' '.join(token['text'].split())} <{token['link']}>`__"
    url = token["url"]
    return url[:-1] + "\\ ." if url.endswith(".") else url


def _escaped(text):
    return re.sub(r"([\\*|_])", r"\\\1", text)
