"""Models on this machine, and public weights to get: python -m artifygan_jax.models VERB

  list            the bundles here, and the weights that can be got, with size and licence
  get NAME        download, check and convert one into the cache folder; goes on where it was cut
  path NAME       the folder (or file) of a model
  info NAME|DIR   what a model is: its card, parameters, licence, hash
  verify NAME|DIR...  or --all: the weights are those that the card says, finite, and fit the network

The cache is ARTIFYGAN_CACHE, or artifygan_jax in ~/.cache. Only `get` uses the network, and never where
ARTIFYGAN_OFFLINE=1 is set; it then says how to place the file by hand.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import safetensors
import tqdm

from artifygan_jax import bundle, cli, convert, downloads, registry
from artifygan_jax.data.fetch import Manners
from artifygan_jax.errors import UserError
from artifygan_jax.registry import Entry

ZOO = pathlib.Path(__file__).parent.parent / "zoo"  # of a checkout; an installed package has none

Say = Callable[[str], None]


# ------------------------------------------------------------------------------------------- get


def get(
    entry: Entry,
    output: str | None = None,
    *,
    say: Say,
    manners: Manners = downloads.MANNERS,
) -> dict[str, Any]:
    """Puts the weights of `entry` at `output`, or into the cache by their name; a summary of it.

    A file that lies in the cache under `entry.file`, placed there by hand, is taken instead of a
    download. Another process that gets the same is waited for. Raises `UserError`.
    """
    file, target = _places(entry, output)
    with downloads.sole(bundle.cache() / entry.file, say):
        if target.exists():
            damage = _damage(entry, target)
            if not damage:
                say(f"{target} is here already, and in order")
                return _got(entry, target, already=True)
            say(f"{target} is damaged and replaced: {damage}")
        if target == file:
            _fetch(entry, file, say, manners)
        else:
            _make(entry, file, target, say, manners)
    return _got(entry, target)


def _places(entry: Entry, output: str | None) -> tuple[pathlib.Path, pathlib.Path]:
    """Where the download goes, and where what is made of it: one file, or a file and a folder."""
    file = bundle.cache() / entry.file
    if entry.arch:
        return file, pathlib.Path(output).absolute() if output else bundle.cache() / entry.name
    if output:
        file = pathlib.Path(output).absolute()
        file = file / entry.file if file.is_dir() else file
    return file, file


def _damage(entry: Entry, target: pathlib.Path) -> str:
    """What is wrong with what is at `target`; a `UserError` where it is something else."""
    if not entry.arch:
        return entry.wanted.fits(target)
    if not (target / bundle.CARD).is_file():
        raise UserError(f"{target} is there and is no model bundle: give another --output")
    try:
        card = read_card(target)
        source = str(card.get("source_sha256"))
        check(target)
    except UserError as error:
        return str(error)
    if not source.startswith(entry.sha256):
        raise UserError(
            f"{target} is a bundle of other weights (made of {card.get('source')}, SHA-256"
            f" {source[:16]}...): give another --output, or remove it"
        )
    return ""


def _make(entry: Entry, file: pathlib.Path, target: pathlib.Path, say: Say, manners: Manners):
    """The bundle `target`; a file that was downloaded for it goes afterwards."""
    downloaded = _fetch(entry, file, say, manners, spare=entry.size)
    say(f"converting {file.name} to {target}")
    convert.convert(entry.arch, str(file), str(target), licence=entry.conditions)
    if downloaded:
        file.unlink(missing_ok=True)


def _fetch(entry: Entry, file: pathlib.Path, say: Say, manners: Manners, spare: int = 0) -> bool:
    """Downloads to `file`; False where a file that is as published lies there already."""
    if file.is_file():
        wrong = entry.wanted.fits(file)
        if not wrong:
            say(f"{file} is here: no download")
            return False
        say(f"{file} is not the published file: {wrong}")
    with downloads.bar(entry.file, say) as progress:
        downloads.download(
            entry.wanted, file, say=say, progress=progress, spare=spare, manners=manners
        )
    if not entry.sha256:
        say(f"unverified: no published hash; this file's SHA-256 is {downloads.digest(file)}")
    return True


def _got(entry: Entry, target: pathlib.Path, *, already: bool = False) -> dict[str, Any]:
    found = read_card(target).get("source_sha256") if entry.arch else downloads.digest(target)
    return {
        "name": entry.name,
        "path": str(target),
        "source_sha256": found,
        "verified": len(entry.sha256) == 64,
        "licence": entry.conditions,
        "already": already,
    }


# ----------------------------------------------------------------------------------- what is here


def bundles() -> list[pathlib.Path]:
    """The folders with a model card in the cache and in `zoo/`, by name."""
    folders = [
        path.parent for top in (bundle.cache(), ZOO) for path in top.glob(f"*/{bundle.CARD}")
    ]
    return sorted((f for f in folders if ".tmp" not in f.name), key=lambda folder: folder.name)


def locate(where: str) -> pathlib.Path:
    """The folder of a bundle, or the plain file of an entry, by name or path; else a `UserError`."""
    entry = registry.entries().get(where)
    if entry and not entry.arch and (bundle.cache() / entry.file).is_file():
        return bundle.cache() / entry.file
    try:
        return bundle.find(where)
    except UserError as error:
        if not entry:
            raise
        raise UserError(
            f"{where} is not here; python -m artifygan_jax.models get {where}"
        ) from error


def read_card(folder: pathlib.Path) -> dict[str, Any]:
    """The card of a bundle; a `UserError` also for one that is no JSON object."""
    try:
        return bundle.read_card(folder)
    except (TypeError, OSError) as error:
        raise UserError(f"{folder / bundle.CARD} cannot be used: {error}") from error


def describe(folder: pathlib.Path) -> dict[str, Any]:
    """A row of the list: what the card says, or under `problem` why it cannot be read."""
    row = {"name": folder.name, "path": str(folder)}
    try:
        card = read_card(folder)
        size = (folder / bundle.WEIGHTS).stat().st_size
    except (UserError, OSError) as error:
        return {**row, "problem": str(error)}
    keys = ("architecture", "net", "parameters", "dtype", "licence")
    return {**row, **{key: card.get(key) for key in keys}, "bytes": size}


def parameters(folder: pathlib.Path) -> dict[str, int]:
    """How many numbers each block of a bundle has, by the first part of their names."""
    counts: dict[str, int] = {}
    try:
        with safetensors.safe_open(folder / bundle.WEIGHTS, "np") as file:
            for name in file.keys():
                count = 1
                for side in file.get_slice(name).get_shape():
                    count *= side
                block = name.split("/")[0]
                counts[block] = counts.get(block, 0) + count
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"{folder / bundle.WEIGHTS} cannot be read ({error}); get or convert it again"
        ) from error
    return counts


def check(where: pathlib.Path) -> None:
    """Raises a `UserError` that names what is wrong with a bundle, or with the file of an entry.

    Looked at: the hash of the weights, their names and shapes against the network, finite values.
    """
    if where.is_file():
        by_file = {entry.file: entry for entry in registry.entries().values()}
        wrong = by_file[where.name].wanted.fits(where)
        if wrong:
            raise UserError(f"{where}: {wrong}; get it again")
        return
    try:
        bundle.load(where)
    except UserError:
        raise
    except (TypeError, AttributeError, KeyError, ValueError, OSError) as error:
        # a card whose fields have the wrong kinds fails where the network is built from them
        raise UserError(
            f"{where}: no network can be made of {bundle.CARD} ({error}); get or convert it again"
        ) from error


# ----------------------------------------------------------------------------------------- verbs


def _list(arguments: Any) -> tuple[dict, int]:
    """the bundles here, and the weights that can be got"""
    here = [describe(folder) for folder in bundles()]
    known = registry.entries().values()
    offered = [{**_row(entry), "here": _is_here(entry)} for entry in known]
    if not arguments.json:
        _table(here, offered)
    return {"verb": "list", "bundles": here, "registry": offered}, cli.DONE


def _row(entry: Entry) -> dict[str, Any]:
    return {**dataclasses.asdict(entry), "size": entry.size or None}


def _is_here(entry: Entry) -> bool:
    place = bundle.cache() / (entry.name if entry.arch else entry.file)
    return (place / bundle.CARD).is_file() if entry.arch else place.is_file()


def _table(here: list[dict], offered: list[dict]) -> None:
    rows = [("HERE", "WHAT", "SIZE", "LICENCE")]
    for row in here:
        what = row.get("problem") or f"{row['architecture']} {row['net']}"
        rows.append((row["name"], what, _size(row.get("bytes")), str(row.get("licence", ""))))
    rows += [("", "", "", ""), ("TO GET", "WHAT", "SIZE", "LICENCE")]
    for row in offered:
        name = row["name"] + (" (here)" if row["here"] else "")
        rows.append((name, row["what"], _size(row["size"]), row["licence"]))
    for name, what, size, licence in rows:
        print(f"{name:<30} {_cut(what, 62):<62} {size:>9}  {_cut(licence, 50)}".rstrip())
    print()


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


def _size(count: int | None) -> str:
    return f"{count / 1e6:,.1f} MB" if count else "?"


def _get(arguments: Any) -> tuple[dict, int]:
    """download, check and convert one into the cache folder"""
    entry = registry.find(arguments.name)
    _say(f"{entry.name}: {entry.what}; licence: {entry.conditions}; from {entry.source}")
    return {"verb": "get", **get(entry, arguments.output, say=_say)}, cli.DONE


def _path(arguments: Any) -> tuple[dict, int]:
    """print the folder (or file) of a model"""
    place = str(locate(arguments.name).absolute())
    print(place)
    return {"verb": "path", "path": place}, cli.DONE


def _info(arguments: Any) -> tuple[dict, int]:
    """print what a model is"""
    entry = registry.entries().get(arguments.name)
    facts: dict[str, Any] = {"name": arguments.name}
    try:
        place = locate(arguments.name)
    except UserError:
        if not entry:
            raise
        facts |= {"path": None, "get": f"python -m artifygan_jax.models get {entry.name}"}
    else:
        facts["path"] = str(place.absolute())
        if place.is_dir():
            blocks = parameters(place)
            facts |= {"card": read_card(place), "parameters": sum(blocks.values())}
            facts["blocks"] = blocks
    if entry:
        facts["registry"] = _row(entry)
    _print_facts(facts)
    return {"verb": "info", **facts}, cli.DONE


def _print_facts(facts: dict[str, Any], indent: str = "") -> None:
    for key, value in facts.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_facts(value, indent + "  ")
        else:
            plain = json.dumps(value) if isinstance(value, (list, tuple)) else value
            print(f"{indent}{key}: {'not known' if plain in (None, '') else plain}")


def _verify(arguments: Any) -> tuple[dict, int]:
    """check that models are whole, finite and fit their networks"""
    if bool(arguments.names) == arguments.all:
        raise UserError("give names or folders of models, or --all; see --help")
    names, done, failures = arguments.names, [], []
    if arguments.all:
        plain = [e.name for e in registry.entries().values() if not e.arch and _is_here(e)]
        names = [str(folder) for folder in bundles()] + plain
        if not names:
            raise UserError(f"no models in {bundle.cache()} to verify")
    for name in names:
        try:
            place = locate(name)
            check(place)
            done.append(str(place))
            _say(f"{name}: in order")
        except UserError as error:
            if len(names) == 1:
                raise
            failures.append({"input": name, "reason": str(error)})
            _say(f"failed: {name}: {error}")
    summary = {"verb": "verify", "done": len(done), "failed": len(failures), "verified": done}
    return {**summary, "failures": failures}, cli.SOME_FAILED if failures else cli.DONE


def _say(line: str) -> None:
    tqdm.tqdm.write(line, file=sys.stderr)


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m artifygan_jax.models", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, do: Callable[[Any], tuple[dict, int]]) -> cli.Parser:
        sub = verbs.add_parser(name, help=do.__doc__, description=do.__doc__)
        sub.set_defaults(do=do)
        return sub

    verb("list", _list).add_argument("--json", action="store_true", help="no table, only the JSON")
    sub = verb("get", _get)
    sub.add_argument("name", metavar="NAME", help="one of those that `list` offers")
    text = "bundle folder to write (or file, for one that is not converted); default: the cache"
    sub.add_argument("--output", metavar="PATH", help=text)
    verb("path", _path).add_argument("name", metavar="NAME", help="of a model")
    verb("info", _info).add_argument("name", metavar="NAME|DIR", help="of a model")
    sub = verb("verify", _verify)
    sub.add_argument("names", nargs="*", metavar="NAME|DIR", help="models")
    sub.add_argument("--all", action="store_true", help="all in the cache and in zoo/")
    return parser


def main(argv: Sequence[str]) -> tuple[dict, int]:
    """The command; returns (summary, exit code)."""
    arguments = _parser().parse_args(argv)
    return arguments.do(arguments)


if __name__ == "__main__":
    cli.run(main)
