"""Official files: found where people put them; hostile archives are refused and write nothing."""

import io
import shutil
import struct
import tarfile
import zipfile

import pytest

from artifygan_jax.data import building, sources
from artifygan_jax.data.celeba.celeba_dataset_builder import prepare_celeba
from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.data.listing import Entry
from artifygan_jax.data.sources import Found, Official
from artifygan_jax.errors import UserError
from tests.data.downloads import jpeg, write_zip

GOOD = "img_align_celeba/000001.jpg"


def archive(tmp_path, members):
    """`img_align_celeba.zip` of (name, bytes) pairs, twins and all."""
    path = tmp_path / "in" / "img_align_celeba.zip"
    path.parent.mkdir(exist_ok=True)
    with pytest.warns(UserWarning) if len({n for n, _ in members}) < len(members) else _nothing():
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in members:
                file.writestr(name, data)
    return path


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def prepare(tmp_path):
    """Prepares it, and asserts that nothing was written but below `out`."""
    before = {p for p in tmp_path.rglob("*") if "out" not in p.parts}
    try:
        return prepare_celeba(tmp_path / "in", tmp_path / "out", allow_missing=True)
    finally:
        assert {
            p for p in tmp_path.rglob("*") if "out" not in p.relative_to(tmp_path).parts
        } == before


@pytest.mark.parametrize(
    "name",
    ["../000002.jpg", "a/../../000002.jpg", "/tmp/000002.jpg", "C:\\000002.jpg", "..\\x.jpg"],
)
def test_an_archive_with_a_member_that_points_outside_is_refused(tmp_path, name):
    archive(tmp_path, [(GOOD, jpeg(1)), (name, jpeg(2))])
    with pytest.raises(UserError, match="points outside the archive"):
        prepare(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "twin", [GOOD, "img_align_celeba/000001.JPG", "other/000001.jpg", "IMG_ALIGN_CELEBA/000001.jpg"]
)
def test_an_archive_with_two_pictures_of_one_name_is_refused(tmp_path, twin):
    archive(tmp_path, [(GOOD, jpeg(1)), (twin, jpeg(2))])
    with pytest.raises(UserError, match="holds 000001.(jpg|JPG) twice"):
        prepare(tmp_path)


def test_a_bomb_is_left_out_with_its_reason(tmp_path):
    bomb = b"\xff\xd8\xff" + bytes(2**23)
    archive(tmp_path, [(GOOD, jpeg(1)), ("img_align_celeba/000002.jpg", bomb)])
    summary = prepare(tmp_path)
    assert summary["pictures"] == 1
    assert summary["failures"][0]["input"] == "000002.jpg"
    assert "zip bomb" in summary["failures"][0]["reason"]


def test_encrypted_and_damaged_members_are_left_out_with_their_reasons(tmp_path):
    path = archive(tmp_path, [(f"a/00000{n}.jpg", jpeg(n)) for n in (1, 2, 3)])
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        offsets = [info.header_offset for info in file.infolist()]
    central = data.index(b"PK\1\2")
    data[central + 8] |= 1  # the first is encrypted, its directory says
    data[offsets[1] + 60] ^= 0xFF  # the second's bytes are not those of its checksum
    path.write_bytes(data)
    summary = prepare(tmp_path)
    reasons = {f["input"]: f["reason"] for f in summary["failures"]}
    assert "encrypted" in reasons["000001.jpg"] and "damaged" in reasons["000002.jpg"]
    assert summary["pictures"] == 1


def test_links_and_hidden_members_are_no_pictures(tmp_path):
    path = archive(
        tmp_path,
        [(GOOD, jpeg(1)), ("__MACOSX/._1.jpg", b"x"), ("__MACOSX/9.jpg", b"x"), ("a/.2.jpg", b"x")],
    )
    link = zipfile.ZipInfo("img_align_celeba/000002.jpg")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    summary = prepare(tmp_path)
    assert summary["pictures"] == 1 and summary["failures"] == []


def test_an_archive_of_too_many_pictures_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_PICTURES", 5)
    archive(tmp_path, [(f"a/{n}.jpg", b"") for n in range(6)])
    with pytest.raises(UserError, match="6 pictures, at most 5"):
        prepare(tmp_path)


def test_a_tar_a_web_page_and_a_cut_zip_are_no_zips(tmp_path):
    path = archive(tmp_path, [(GOOD, jpeg(1))])
    whole = path.read_bytes()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        member = tarfile.TarInfo("../../evil.jpg")
        member.size = 3
        file.addfile(member, io.BytesIO(b"abc"))
    for data in (tar.getvalue(), b"<!doctype html>", b"", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(UserError, match="cannot be read as a zip"):
            prepare(tmp_path)
    assert not (tmp_path / "out").exists()


def test_members_that_claim_gigabytes_are_not_believed(tmp_path, monkeypatch):
    path = archive(tmp_path, [(f"a/{n:06d}.jpg", jpeg(n)) for n in range(9)])
    data = bytearray(path.read_bytes())
    places = [i for i in range(len(data)) if data[i : i + 4] == b"PK\1\2"]
    for at in places[:7]:
        data[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(data)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(building.shutil, "disk_usage", lambda place: usage._replace(free=2**30))
    with pytest.raises(UserError, match="1,024 MiB free, 28,672 MiB needed"):
        prepare(tmp_path)
    monkeypatch.setattr(building.shutil, "disk_usage", lambda place: usage._replace(free=2**40))
    summary = prepare(tmp_path)
    assert summary["pictures"] == 2 and summary["shards"] == {"train": 1}
    assert {f["reason"][:9] for f in summary["failures"]} == {"too large"}


def test_loose_files_go_before_those_in_archives(tmp_path):
    write_zip(
        tmp_path / "Anno.zip", {"Anno/a.txt": "zip", "Anno/b.txt": "zip", "__MACOSX/b.txt": ""}
    )
    (tmp_path / "Anno").mkdir()
    (tmp_path / "Anno" / "a.txt").write_text("loose")
    names = [Official("a.txt"), Official("b.txt"), Official("c.txt")]
    found = sources.find(tmp_path, names, folders=("Anno",), archives=("Anno*.zip",))
    assert {name: file.entry.read() for name, file in found.items()} == {
        "a.txt": b"loose",
        "b.txt": b"zip",
    }


def test_an_archive_with_a_table_twice_is_refused(tmp_path):
    write_zip(tmp_path / "Anno.zip", {"Anno/a.txt": "1", "more/a.txt": "2"})
    with pytest.raises(UserError, match="holds a.txt twice"):
        sources.find(tmp_path, [Official("a.txt")], folders=(), archives=("*.zip",))


def test_a_digest_is_that_of_the_file_or_member(tmp_path):
    write_zip(tmp_path / "a.zip", {"x/a.txt": "abc"})
    (tmp_path / "a.txt").write_text("abc")
    loose = sources.find(tmp_path, [Official("a.txt")], folders=(), archives=())["a.txt"]
    (tmp_path / "a.txt").rename(tmp_path / "moved")
    inside = sources.find(tmp_path, [Official("a.txt")], folders=(), archives=("*.zip",))["a.txt"]
    (tmp_path / "moved").rename(tmp_path / "a.txt")
    assert sources.digest(loose) == sources.digest(inside)
    assert sources.digest(inside, "md5") == "900150983cd24fb0d6963f7d28e17f72"


def test_jpegs_are_told_by_their_bytes(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    assert sources.read_jpeg(Entry("a.jpg", tmp_path / "a.jpg")) == jpeg(1)
    (tmp_path / "a.jpg").write_bytes(b"GIF89a" + bytes(50))
    with pytest.raises(UnreadablePicture, match="a.jpg: not a JPEG"):
        sources.read_jpeg(Entry("a.jpg", tmp_path / "a.jpg"))


def test_a_file_that_cannot_be_read_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        sources.digest(Found(Official("a.zip"), Entry("a.zip", tmp_path / "a.zip")))
