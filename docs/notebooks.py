"""Runs the tutorials and writes their pages.

    pip install -e ".[tutorials]"
    python docs/notebooks.py                     # all, or the names of some

A script in docs/tutorials is the source. Its page holds its text, its code and
what the code printed and drew. Pages are kept, as the site is built without a
backend of Keras; tests/tutorials_test.py finds those that are out of date.
"""

import argparse
import base64
import pathlib
import re
import tempfile
from typing import Any

from hooks import ROOT, TUTORIALS, notebook

IMAGES = ROOT / "docs" / "images" / "tutorials"


def run(made: Any) -> None:
    """Executes a notebook in an empty folder, as a new user does."""
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            made, timeout=600, resources={"metadata": {"path": folder}}
        ).execute()


def page(made: Any, name: str) -> str:
    """The Markdown of an executed notebook; writes its pictures."""
    IMAGES.mkdir(exist_ok=True)
    for old in IMAGES.glob(f"{name}_*.png"):
        old.unlink()
    parts, heading, pictures = [], "", 0
    for cell in made.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            # Says below what a picture shows.
            heading = re.findall(r"(?m)^#+ (.*)|$", cell.source)[0] or heading
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if output.get("name") == "stdout":
                # In a notebook TensorFlow writes its log there.
                lines = output.text.splitlines()
                lines = [x for x in lines if not x.startswith("WARNING:")]
                if lines:
                    parts.append("\n".join(["```", *lines, "```"]))
            elif "image/png" in data:
                pictures += 1
                file = IMAGES / f"{name}_{pictures}.png"
                file.write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![{heading}](../images/tutorials/{file.name})")
            elif "text/plain" in data:
                parts.append(f"```\n{data['text/plain']}\n```")
    # Behind the title.
    script = f"[The script](../../docs/tutorials/{name}.py)"
    title, text = parts[0].split("\n", 1)
    return "\n\n".join([title, script, text.strip(), *parts[1:]]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(path.stem for path in TUTORIALS.glob("*.py"))
    parser.add_argument("names", nargs="*", default=names, metavar="NAME")
    for name in parser.parse_args().names:
        script = pathlib.Path(TUTORIALS, name).with_suffix(".py")
        made = notebook(script)
        run(made)
        script.with_suffix(".md").write_text(page(made, name))


if __name__ == "__main__":
    main()
