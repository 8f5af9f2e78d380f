"""Prepare data: python -m artifygan_jax.prepare VERB --source=... --output=...

datasets, from the official downloads (read again by `Pictures("OUTPUT/celeba")` in a config):
  celeba      img_align_celeba.zip and the text files, or Anno.zip and Eval.zip
  coco        train2017.zip, val2017.zip, annotations_trainval2017.zip
  safebooru   all_data.csv of Kaggle, or JSON of Safebooru or Danbooru; pictures from a folder or downloaded
pictures, from a folder, glob, zip, FILE.zip/FOLDER or a prepared dataset to a folder:
  images      resize, crop, 24-bit RGB, upright
  smooth      the edge-smoothed twins that CartoonGAN, ArtifyGAN and AnimeGAN train on
  align       faces cut out and turned upright, as FFHQ's are
numbers:
  eda         what is in CelebA or Safebooru: eda.json, a page, charts

A second run of the same command goes on where the first was stopped. PREPARE VERB --help has the flags.
"""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from PIL import ImageColor

from artifygan_jax import cli
from artifygan_jax.data import prepared, records
from artifygan_jax.errors import UserError


def main(argv: Sequence[str]) -> tuple[dict, int]:
    """The command; returns (summary, exit code)."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    summary = {"verb": arguments.verb, **arguments.do(arguments)}
    if summary.get("stopped"):
        return summary, cli.STOPPED_EARLY
    return summary, cli.SOME_FAILED if summary.get("failed") else cli.DONE


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="artifygan_jax.prepare", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, do: Callable[[Any], dict], source: str) -> cli.Parser:
        sub = verbs.add_parser(name, help=do.__doc__, description=do.__doc__)
        sub.set_defaults(do=do)
        sub.add_argument("--source", required=True, help=source)
        sub.add_argument("--output", required=True, help="a folder; made if need be")
        return sub

    _dataset_flags(verb)
    _picture_flags(verb)
    verb("eda", _eda, "a folder or zip with CelebA's tables, or Safebooru's metadata")
    return parser


def _dataset_flags(verb: Callable[..., cli.Parser]) -> None:
    missing = "leave out and count what lacks; take archives that are not the official ones"
    sub = verb("celeba", _celeba, "the folder with the official files")
    sub.add_argument("--allow_missing", action="store_true", help=missing)
    sub = verb("coco", _coco, "the folder with the official zips")
    sub.add_argument("--allow_missing", action="store_true", help=missing)
    sub.add_argument("--person_only", action="store_true", help="only pictures with a person")
    sub = verb("safebooru", _safebooru, "the metadata, or the folder with it")
    add = sub.add_argument
    pictures = sub.add_mutually_exclusive_group()
    text = "their folder, named by post id or md5 (default: OUTPUT/safebooru_pictures)"
    pictures.add_argument("--pictures", help=text)
    pictures.add_argument("--download", action="store_true", help="fetch them into that folder")
    add("--tags", default="", help="every picture has all of these: smile,golden eyes")
    add("--without", default="", help="no picture has any of these")
    add("--min_size", type=int, default=256, help="of the shorter side in pixels (256)")
    add("--count", type=int, help="how many pictures (default: all)")
    add("--workers", type=int, default=4, help="downloads at a time (4)")
    add("--rate", type=float, default=2.0, help="requests a second, over all workers (2)")
    text = "which may be asked, with their subdomains (safebooru.org,donmai.us)"
    add("--hosts", default="safebooru.org,donmai.us", help=text)


def _picture_flags(verb: Callable[..., cli.Parser]) -> None:
    place = "a folder, glob, zip, FILE.zip/FOLDER or prepared dataset"
    sub = verb("images", _images, place)
    sub.add_argument("--size", type=int, default=256, help="pixels a side (256); 0 keeps the size")
    crops = ("none", "center", "face", "anime_face")
    text = "none: the longest side gets --size; else a square (center)"
    sub.add_argument("--crop", choices=crops, default="center", help=text)
    sub.add_argument("--no_upsize", action="store_true", help="leave smaller pictures out")
    _face_flags(sub)
    sub.add_argument("--cascade", help="lbpcascade_animeface.xml, for --crop=anime_face")
    _output_flags(sub)
    sub = verb("smooth", _smooth, place)
    sub.add_argument("--size", type=int, default=256, help="pixels a side (256); 0 keeps the size")
    sub.add_argument(
        "--variant",
        choices=("recipe", "deck"),
        default="recipe",
        help="recipe: edges of the picture blurred; deck: blurred edge maps, as its notebook has it",
    )
    _output_flags(sub)
    sub = verb("align", _align, place)
    sub.add_argument("--size", type=int, default=256, help="pixels a side (256)")
    sub.add_argument("--landmarks", help="list_landmarks_align_celeba.txt, for CelebA's pictures")
    text = "what becomes of a picture without a face"
    sub.add_argument("--no_face", choices=("skip", "center"), default="skip", help=text)
    _face_flags(sub)
    _output_flags(sub)


def _face_flags(sub: cli.Parser) -> None:
    text = "of several faces in a picture (largest)"
    sub.add_argument("--faces", choices=("largest", "all"), default="largest", help=text)


def _output_flags(sub: cli.Parser) -> None:
    sub.add_argument("--format", choices=("png", "jpg"), default="png", help="of outputs (png)")
    sub.add_argument("--background", default="white", help="behind transparency: a name or #rrggbb")
    sub.add_argument("--threads", type=int, default=0, help="0: one for each core")


# ------------------------------------------------------------------------------------- datasets


def _celeba(a) -> dict[str, Any]:
    """CelebA's official files to a dataset: pictures, attributes, landmarks, identities, split."""
    from artifygan_jax.data.celeba.celeba_dataset_builder import prepare_celeba

    summary = prepare_celeba(a.source, a.output, allow_missing=a.allow_missing, say=_say)
    return _indexed(summary)


def _coco(a) -> dict[str, Any]:
    """COCO 2017's official zips to a dataset: pictures with categories and boxes."""
    from artifygan_jax.data.coco.coco_dataset_builder import prepare_coco

    options = dict(person_only=a.person_only, allow_missing=a.allow_missing)
    return _indexed(prepare_coco(a.source, a.output, **options, say=_say))


def _safebooru(a) -> dict[str, Any]:
    """Safebooru's metadata and pictures to a dataset: pictures with tags; safe ratings only."""
    from artifygan_jax.data.safebooru.safebooru_dataset_builder import prepare_safebooru

    summary = prepare_safebooru(
        a.source,
        a.output,
        pictures=a.pictures,
        download=a.download,
        tags=a.tags,
        without=a.without,
        min_size=a.min_size,
        count=a.count,
        workers=a.workers,
        rate=a.rate,
        hosts=tuple(host.strip() for host in a.hosts.split(",")),
        say=_say,
    )
    return summary if summary.get("stopped") else _indexed(summary)


def _indexed(summary: dict[str, Any]) -> dict[str, Any]:
    """Makes the index of names and labels now, so that no training waits for it."""
    labels = records.Records(Path(summary["path"])).labels
    return {**summary, "labels": len(labels.vocabulary)}


# ------------------------------------------------------------------------------------- pictures


def _images(a) -> dict[str, Any]:
    """Pictures to 24-bit RGB ones of one size: upright, cropped, alpha on a background."""
    from artifygan_jax.data import transforms

    crop: Any = a.crop
    options = {"size": a.size, "crop": a.crop, "upsize": not a.no_upsize}
    if a.crop in ("face", "anime_face"):
        crop = _face_boxes(a)
        options["faces"] = a.faces
    work = transforms.resizer(a.size or None, crop, not a.no_upsize)
    return _prepare(a, work, options)


def _smooth(a) -> dict[str, Any]:
    """The edge-smoothed twins of cartoons (CartoonGAN, Sec. 3.2), under the same names."""
    from artifygan_jax.data import edges

    work = edges.smoother(a.size or None, a.variant)
    return _prepare(a, work, {"size": a.size, "variant": a.variant})


def _align(a) -> dict[str, Any]:
    """Faces turned upright and cut out, as FFHQ's are, by own landmarks or a detector."""
    from artifygan_jax.data import align

    own = _own_landmarks(a)
    work = align.aligner(
        a.size, landmarks=own, detector=_detector(), faces=a.faces, no_face=a.no_face
    )
    options = {"size": a.size, "faces": a.faces, "no_face": a.no_face, "landmarks": bool(own)}
    return _prepare(a, work, options)


def _own_landmarks(a) -> Mapping[str, np.ndarray]:
    """The data set's own points: of a prepared CelebA, or of its official table."""
    if a.landmarks:
        from artifygan_jax.data.celeba import contents

        try:
            data = Path(a.landmarks).expanduser().read_bytes()
        except OSError as error:
            raise UserError(f"--landmarks={a.landmarks}: {error.strerror or error}") from error
        rows = contents.parse(contents.TABLES["landmarks"], data)
        return {name: np.array(row, np.float32).reshape(5, 2) for name, row in rows.items()}
    folder = records.dataset_folder(a.source)
    return records.Records(folder).landmarks() if folder else {}


def _detector():
    """The face detector; its programs are compiled once and kept in the cache."""
    import jax

    from artifygan_jax import bundle, detect

    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(bundle.cache() / "xla"))
    return detect.Detector.from_package()


def _face_boxes(a) -> Callable:
    """Where faces are, for a crop: a square about each box, with a margin on every side."""
    from artifygan_jax import bundle
    from artifygan_jax.data import anime_faces

    if a.crop == "anime_face":
        cascade = anime_faces.find_cascade(a.cascade, bundle.cache())
        return anime_faces.cropper(anime_faces.AnimeFaces(cascade), 0.25, a.faces)
    detector = _detector()
    return anime_faces.cropper(lambda rgb: [face.box for face in detector(rgb)], 0.3, a.faces)


def _prepare(a, work: prepared.Work, options: dict[str, Any]) -> dict[str, Any]:
    try:
        background = ImageColor.getrgb(a.background)[:3]
    except ValueError as error:
        raise UserError(f"--background={a.background}: give a colour name or #rrggbb") from error
    return prepared.prepare(
        a.source,
        a.output,
        work,
        verb=a.verb,
        options=options,
        suffix=f".{a.format}",
        background=background,
        threads=a.threads,
        say=_say,
    )


# -------------------------------------------------------------------------------------- numbers


def _eda(a) -> dict[str, Any]:
    """What is in CelebA or Safebooru: shares, correlations, sizes, as JSON, a page and charts."""
    from artifygan_jax.data import eda

    return eda.explore(a.source, a.output, say=_say)


def _say(line: str) -> None:
    """One line on stderr, above the bar where there is one."""
    tqdm.tqdm.write(line, file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
