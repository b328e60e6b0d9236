"""What the site needs beside mkdocs.yml: API pages, sources, equations.

Nothing of the package is imported: names are read from each `__all__`, and
docstrings by griffe, so that the site builds without a backend of Keras.
"""

import ast
import pathlib
import re
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
# The modules whose names are public, as the API lists them. A name that stands
# in several has its page in the first.
ROOMS = {
    "keras_finegrain.layers": "Layers",
    "keras_finegrain.losses": "Losses",
    "keras_finegrain.models": "Ends of networks",
    "keras_finegrain.regularizers": "Regularizers",
    "keras_finegrain.optimizers": "Optimizers",
    "keras_finegrain.metrics": "Metrics",
    "keras_finegrain.callbacks": "Callbacks",
    "keras_finegrain.visualization": "Pictures",
    "keras_finegrain.datasets": "Data sets",
    "keras_finegrain.gallery": "Galleries",
    "keras_finegrain.distribution": "Distribution",
    "keras_finegrain": "Models and whole runs",
}
# A link of a page to a file beside docs/, as it works in the repository.
OUTSIDE = re.compile(r"\]\(((?:\.\./)+)([^)#\s]+?)/?\)")


def public_names(module: str) -> list[str]:
    """`__all__` of a module, without modules and the version."""
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and (
            ast.unparse(node.targets[0]) == "__all__"
        ):
            names = ast.literal_eval(node.value)
            modules = {"__version__", *(room.split(".")[-1] for room in ROOMS)}
            return [name for name in names if name not in modules]
    raise ValueError(f"{file}: has no list __all__.")


def api_pages() -> dict[str, dict[str, str]]:
    """Of each room the names that have their page there, with its path."""
    seen: set[str] = set()
    rooms = {}
    for module in ROOMS:
        names = [name for name in public_names(module) if name not in seen]
        seen.update(names)
        rooms[module] = {name: f"api/{module}.{name}.md" for name in names}
    return rooms


def equation(source: str, *_: Any, **__: Any) -> str:
    """MathML of a fence ```math, which GitHub typesets as well."""
    from latex2mathml.converter import convert

    return f'<div class="math">{convert(source, display="block")}</div>'


def on_config(config: Any) -> Any:
    """Appends the API to the navigation, and sets the fence for equations."""
    config.mdx_configs.setdefault("pymdownx.superfences", {})[
        "custom_fences"
    ] = [{"name": "math", "class": "math", "format": equation}]
    rooms: list[Any] = ["api/index.md"]
    for module, pages in api_pages().items():
        rooms.append({ROOMS[module]: [{n: path} for n, path in pages.items()]})
    config.nav.append({"API": rooms})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds a page for each public name, and for each file that is linked."""
    from mkdocs.structure.files import File

    top = public_names("keras_finegrain")
    index = [
        "# API\n",
        "Every public name. What stands in `keras_finegrain` itself is named "
        "so, the rest by its module.\n",
    ]
    pages = {}
    for module, paths in api_pages().items():
        index.append(f"\n## {ROOMS[module]}\n")
        for name, path in paths.items():
            called = f"{'keras_finegrain' if name in top else module}.{name}"
            index.append(f"- [`{called}`]({path.removeprefix('api/')})")
            pages[path] = (
                f"---\ntitle: {name}\n---\n\n::: {module}.{name}\n"
                f"    options:\n      heading: {called}\n"
            )
    pages["api/index.md"] = "\n".join(index)
    for page in (ROOT / "docs").glob("**/*.md"):
        for _, target in OUTSIDE.findall(page.read_text()):
            if (ROOT / target).exists():
                pages[f"code/{target}.md"] = source_page(ROOT / target)
    for script in TUTORIALS.glob("*.py"):
        import jupytext

        pages[f"tutorials/{script.stem}.ipynb"] = jupytext.writes(
            notebook(script), fmt="ipynb"
        )
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def notebook(script: pathlib.Path) -> Any:
    """A script of docs/tutorials as a notebook without outputs.

    Scripts are in Jupytext's percent format, or in that of keras.io: text
    stands in triple quotes, and the first of them is a header.
    """
    import jupytext

    text = script.read_text()
    of_keras_io = text.startswith('"""')
    if of_keras_io:
        text = re.sub(
            r'^"""\n(.*?)^"""\n',
            r'# %% [markdown]\n"""\n\1"""\n# %%\n',
            text,
            flags=re.MULTILINE | re.DOTALL,
        )
    made = jupytext.reads(text, fmt="py:percent")
    made.cells = [cell for cell in made.cells if cell.source]
    if of_keras_io:
        header = re.sub(r"(?m)^(.+?): ", r"**\1:** ", made.cells[0].source)
        title, *fields = header.splitlines()
        made.cells[0].source = "\n\n".join(
            [title.replace("**Title:**", "#"), "<br>\n".join(fields)]
        )
    made.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    # By their places, so that the same script gives the same file.
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"
    return made


def source_page(path: pathlib.Path) -> str:
    """The page of a file of the repository, or of the names in a folder."""
    title = f"# {path.name}\n\n`{path.relative_to(ROOT)}`\n\n"
    if path.is_dir():
        return title + "\n".join(
            f"- `{p.name}`" for p in sorted(path.iterdir())
        )
    if path.suffix == ".md":
        return path.read_text()
    language = path.suffix.removeprefix(".")
    return f"{title}````{language}\n{path.read_text()}\n````\n"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links to files beside docs/ into links to their pages."""
    place = page.file.src_uri
    # What stands in code/ has links from its own folder, which lead nowhere.
    if place.startswith("code/"):
        return re.sub(r"!?\[([^]]*)\]\((?!https?:|#)[^)]*\)", r"\1", markdown)
    if place.startswith("tutorials/"):
        # Made for the site alone.
        name = pathlib.PurePath(place).with_suffix(".ipynb").name
        markdown = markdown.replace(
            "[The script](", f"[The notebook]({name}) · [The script](", 1
        )
    depth = place.count("/")

    def link(match: re.Match[str]) -> str:
        if match[1].count("../") != depth + 1:
            return match[0]
        return f"]({'../' * depth}code/{match[2]}.md)"

    return OUTSIDE.sub(link, markdown)
