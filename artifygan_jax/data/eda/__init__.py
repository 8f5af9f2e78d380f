"""What is in a data set, before anyone trains on it: numbers, charts and one page, for CelebA or Safebooru.

`explore` writes `eda.json` (all the numbers), PNG charts for slides, and a page that opens from disk.
`celeba.py` and `safebooru.py` count; `charts.py` and `page.py` show what they counted.
"""

import json
import os
from pathlib import Path
from typing import Any

from artifygan_jax.data.eda import celeba, charts, page, safebooru
from artifygan_jax.data.listing import writable_folder
from artifygan_jax.data.safebooru.posts import find_metadata
from artifygan_jax.data.saving import write_whole
from artifygan_jax.data.sources import Say
from artifygan_jax.errors import UserError


def explore(
    source: str | os.PathLike, output: str | os.PathLike, *, say: Say = lambda line: None
) -> dict[str, Any]:
    """Counts what is in `source` and writes `eda.json`, `index.html` and charts to the folder `output`.

    `source` holds the official CelebA text files (loose, in `Anno/` and `Eval/`, or in their zips; the
    attributes alone are enough), or the metadata of Safebooru posts (CSV or JSON); which one is seen
    from what is there. Without matplotlib the charts are left out, and the summary says so.
    Returns the summary, with `failed` and `failures` of pictures that could not be read. Raises
    `UserError`.
    """
    source, output = Path(source).expanduser(), Path(output).expanduser()
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if output.resolve() == source.resolve():
        raise UserError(f"{output}: is the source too; give another --output")
    files = celeba.find(source)
    posts = source if files else _posts(source)
    writable_folder(output)  # before the long part
    numbers = celeba.numbers(files, say=say) if files else safebooru.numbers(posts, say=say)
    failures = numbers.get("pictures", {}).get("failures", [])
    summary = {"kind": numbers["kind"], "files": numbers["files"], "output": str(output)}
    try:
        drawn = charts.draw(numbers)
    except UserError as error:
        drawn = {}
        summary["charts_left_out"] = str(error)
        say(str(error))
    _write(output, numbers, drawn)
    return {
        **summary,
        "written": sorted(["eda.json", "index.html", *drawn]),
        **_key_numbers(numbers),
        "failed": len(failures),
        "failures": failures,
    }


def _posts(source: Path) -> Path:
    """The file with the metadata of posts."""
    try:
        return find_metadata(source)
    except UserError as error:
        raise UserError(
            f"no CelebA (list_attr_celeba.txt) here; as for Safebooru: {error}"
        ) from error


def _write(output: Path, numbers: dict[str, Any], drawn: dict[str, bytes]) -> None:
    """The page last, so that it never shows a chart that is not there."""
    for name in sorted({f"{chart}.png" for chart in charts.CHARTS} - set(drawn)):
        (output / name).unlink(missing_ok=True)  # an older run's, which the page no longer has
    for name, data in drawn.items():
        write_whole(output / name, data)
    write_whole(output / "eda.json", (json.dumps(numbers, indent=1) + "\n").encode())
    write_whole(output / "index.html", page.page(numbers, drawn).encode())


def _key_numbers(numbers: dict[str, Any]) -> dict[str, Any]:
    """The few numbers that the command's last line has."""
    if numbers["kind"] == "safebooru":
        deck = {name: part["posts"] for name, part in numbers["deck_tags"].items()}
        return {
            "posts": numbers["posts"],
            "malformed": numbers["malformed"]["rows"],
            "deck_tags": deck,
        }
    return {
        "pictures_listed": numbers["pictures_listed"],
        "identities": numbers.get("identities", {}).get("count"),
        "splits": {name: part["pictures"] for name, part in numbers.get("splits", {}).items()},
        "not_available": numbers["not_available"],
    }
