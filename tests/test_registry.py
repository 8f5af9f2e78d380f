"""The table of public weights: complete, https only, and no hash that could not be one."""

import re
from urllib.parse import urlsplit

import pytest

from artifygan_jax import convert, downloads, registry
from artifygan_jax.data import anime_faces
from artifygan_jax.errors import UserError
from tests.conftest import shared

ENTRIES = registry.entries().values()


def every(check):
    return pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)(check)


@every
def test_every_entry_says_what_it_is_where_from_under_which_terms_and_how_that_is_known(entry):
    for text in (entry.what, entry.licence, entry.source, entry.found, entry.conditions):
        assert text.strip() and text.isprintable()
    assert re.fullmatch(r"[a-z0-9_]+", entry.name)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", entry.file) and not entry.file.startswith(".")
    if entry.licence.startswith("none"):
        assert entry.terms


@every
def test_every_address_is_https_with_a_host_and_no_password(entry):
    assert entry.urls
    for url in (*entry.urls, entry.source):
        address = urlsplit(url)
        assert address.scheme == "https" and address.hostname and "@" not in address.netloc


@every
def test_a_hash_is_whole_or_absent_and_the_digits_in_a_name_are_its_first(entry):
    assert re.fullmatch(r"([0-9a-f]{64})?", entry.sha256)
    in_name = re.search(r"-([0-9a-f]{8})\.pth$", entry.file)
    if in_name:
        assert entry.sha256.startswith(in_name[1])
    assert entry.size >= 0 and (entry.size or not entry.sha256)


@every
def test_every_layout_is_one_that_convert_knows(entry):
    if entry.arch:
        with pytest.raises(UserError) as raised:
            convert.plan(entry.arch, {})
        assert "no source layout" not in str(raised.value)


def test_names_and_files_do_not_collide():
    names = [entry.name for entry in ENTRIES] + [entry.file for entry in ENTRIES]
    assert len(names) == len(set(names))


def test_the_cascade_is_the_one_that_prepare_takes():
    entry = registry.find("lbpcascade_animeface")
    assert (entry.file, entry.sha256) == (anime_faces.NAME, anime_faces.SHA256)
    assert entry.urls == (anime_faces.ADDRESS,) and not entry.arch


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(UserError, match="no weights called 'vgg91'.*did you mean 'vgg19'"):
        registry.find("vgg91")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lbpcascade_animeface", "lbpcascade_animeface.xml"),
        ("lpips_alex", "lpips_v0.1_alex.pth"),
        ("lpips_squeeze", "lpips_v0.1_squeeze.pth"),
        ("lpips_vgg", "lpips_v0.1_vgg.pth"),
    ],
)
def test_hashes_and_sizes_are_those_of_real_copies(name, file):
    path = shared("data", "weights", file)
    assert registry.find(name).wanted.fits(path) == ""
    assert downloads.digest(path) == registry.find(name).sha256
