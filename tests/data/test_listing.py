"""What is found in folders, globs and zips, and what the outputs are called."""

import errno
import os
import pickle
import random
import stat
import struct
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifygan_jax.data import listing
from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.data.listing import Entry, list_pictures, output_names, writable_folder
from artifygan_jax.errors import UserError


def fill(folder: Path, *names: str) -> Path:
    """Files that hold their own name; nothing here looks at pictures."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def pack(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def found(where, **options) -> list[str]:
    return [entry.name for entry in list_pictures(where, **options)]


def outputs(*names: str, suffix: str = ".png") -> list[str]:
    entries = [Entry(name, Path("/in") / name) for name in names]
    return [path.relative_to("/out").as_posix() for path in output_names(entries, "/out", suffix)]


# --------------------------------------------------------------------------------------- folders


def test_a_folder_is_listed_sorted_at_all_levels_without_hidden_and_other_files(tmp_path):
    fill(tmp_path, "b.JPG", "a/z.png", "a/c.webp", "notes.txt", ".h.png", ".git/x.png", "d.tiff")
    assert found(tmp_path) == ["a/c.webp", "a/z.png", "b.JPG", "d.tiff"]
    assert [entry.read() for entry in list_pictures(str(tmp_path))][0] == b"a/c.webp"


def test_one_file_may_have_any_suffix(tmp_path):
    fill(tmp_path, "photo.jfif")
    (entry,) = list_pictures(tmp_path / "photo.jfif")
    assert (entry.name, entry.read()) == ("photo.jfif", b"photo.jfif")


def test_link_loops_end_and_each_real_folder_is_walked_once(tmp_path):
    fill(tmp_path, "in/a.png", "in/sub/b.png", "else/c.png")
    (tmp_path / "in/sub/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/self").symlink_to(tmp_path / "in/self")
    (tmp_path / "in/there").symlink_to(tmp_path / "else")
    (tmp_path / "in/there_too").symlink_to(tmp_path / "else")
    assert found(tmp_path / "in") == ["a.png", "sub/b.png", "there/c.png"]


def test_unreadable_pictures_are_listed_and_fail_alone(tmp_path):
    fill(tmp_path, "good.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("gone.png")
    causes = {}
    for entry in list_pictures(tmp_path):
        try:
            causes[entry.name] = entry.read()
        except UnreadablePicture as error:
            causes[entry.name] = str(error)
    assert causes == {
        "good.png": b"good.png",
        "folder.png": "folder.png: a folder, not a picture",
        "link.png": "link.png: a link to a missing file",
    }


def test_the_output_folder_inside_the_input_folder_is_not_walked(tmp_path):
    fill(tmp_path, "a.png", "out/a.png", "out/deep/b.png", "outer/c.png")
    assert found(tmp_path, exclude=tmp_path / "out") == ["a.png", "outer/c.png"]
    assert found(f"{tmp_path}/**/*.png", exclude=tmp_path / "out") == ["a.png", "outer/c.png"]
    (tmp_path / "alias").symlink_to(tmp_path / "out")
    assert found(tmp_path, exclude=tmp_path / "out") == ["a.png", "outer/c.png"]
    with pytest.raises(UserError, match="output folder too"):
        list_pictures(tmp_path, exclude=tmp_path)
    assert found(tmp_path / "outer", exclude=tmp_path) == ["c.png"]


def test_a_folder_that_cannot_be_listed_is_a_user_error(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(listing.os, "scandir", refuse)
    with pytest.raises(UserError, match="cannot be listed: Permission denied"):
        list_pictures(tmp_path)


def test_globs_match_pictures_only_and_a_real_name_goes_first(tmp_path):
    fill(tmp_path, "a1.png", "a2.jpg", "b.png", "a.txt", "s/a3.png", "x[1].png", "x1.png")
    assert found(f"{tmp_path}/a*") == ["a1.png", "a2.jpg"]
    assert found(f"{tmp_path}/a?.*") == ["a1.png", "a2.jpg"]
    assert found(f"{tmp_path}/[ab]*.png") == ["a1.png", "b.png"]
    assert found(f"{tmp_path}/*/*.png") == ["s/a3.png"]
    assert found(tmp_path / "x[1].png") == ["x[1].png"]
    assert list_pictures(f"{tmp_path}/s*/a*")[0].read() == b"s/a3.png"


def test_relative_places_and_the_home_folder_are_understood(tmp_path, monkeypatch):
    fill(tmp_path, "in/a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert found("in") == found("./in/*.png") == found("~/in") == found("in/a.png") == ["a.png"]
    entry = list_pictures("in")[0]
    monkeypatch.chdir("/")
    assert entry.read() == b"in/a.png"


def test_an_empty_place_names_itself_and_what_is_allowed(tmp_path):
    fill(tmp_path, "notes.txt")
    for where in (tmp_path, f"{tmp_path}/*.heic"):
        with pytest.raises(UserError, match=r"no pictures here; allowed suffixes: \.bmp, .*\.webp"):
            list_pictures(where)


def test_a_misspelt_place_gets_a_suggestion(tmp_path):
    fill(tmp_path, "photos/a.png")
    with pytest.raises(UserError, match=r"no such place \(did you mean 'photos'\?\)"):
        list_pictures(tmp_path / "fotos")
    for nowhere in ("", "no/such/folder", "a\0b", "x" * 5000, tmp_path / "photos/a.png/b"):
        with pytest.raises(UserError):
            list_pictures(nowhere)


# -------------------------------------------------------------------------------------- archives


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_a_folder_and_so_is_a_folder_in_it(tmp_path, method):
    members = {"s/b.png": b"B" * 99, "s/t/c.jpg": b"C", "a.png": b"A", "s/x.txt": b""}
    members |= {"__MACOSX/._a.png": b"", "s/.h.png": b""}
    path = pack(tmp_path / "p.zip", members, method)
    assert found(path) == ["a.png", "s/b.png", "s/t/c.jpg"]
    assert [e.read() for e in list_pictures(path)] == [b"A", b"B" * 99, b"C"]
    assert found(f"{path}/s") == found(f"{path}/s/") == ["b.png", "t/c.jpg"]
    (only,) = list_pictures(f"{path}/s/t/c.jpg")
    assert (only.name, only.read()) == ("c.jpg", b"C")
    assert os.listdir(tmp_path) == ["p.zip"]


def test_a_misspelt_folder_of_a_zip_gets_a_suggestion(tmp_path):
    path = pack(tmp_path / "p.zip", {"smooth/a.png": b"", "style/b.png": b""})
    with pytest.raises(UserError, match=r"no folder 'stile' inside \(did you mean 'style'\?\)"):
        list_pictures(path / "stile")
    with pytest.raises(UserError, match="no pictures here"):
        list_pictures(pack(tmp_path / "q.zip", {"a/b.txt": b""}) / "a")


def test_a_web_page_named_zip_is_a_user_error(tmp_path):
    (tmp_path / "p.zip").write_text("<!DOCTYPE html>")
    with pytest.raises(UserError, match="cannot be read as a zip"):
        list_pictures(tmp_path / "p.zip")


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/a.png", "s/../../a.png", "..\\a.png", "C:/a.png"]
)
def test_members_that_point_outside_are_refused_by_name(tmp_path, name):
    path = pack(tmp_path / "p.zip", {"good.png": b"", name: b""})
    with pytest.raises(UserError, match="points outside the archive"):
        list_pictures(path)


def test_links_in_a_zip_are_left_out(tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
        file.writestr("a.png", b"A")
    assert found(tmp_path / "p.zip") == ["a.png"]


def test_a_zip_bomb_is_refused_by_name_and_its_neighbours_are_read(tmp_path):
    path = pack(tmp_path / "p.zip", {"bomb.png": bytes(10_000_000), "a.png": b"A"})
    good, bomb = list_pictures(path)
    assert good.read() == b"A"
    with pytest.raises(UnreadablePicture, match=r"bomb\.png: unpacks to 10\d\d times its size"):
        bomb.read()


def test_a_member_that_lies_about_its_size_is_cut_off(tmp_path):
    path = pack(tmp_path / "p.zip", {"bomb.png": bytes(10_000_000)})
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\1\2")
    data[place + 24 : place + 28] = struct.pack("<I", 1000)
    path.write_bytes(data)
    (entry,) = list_pictures(path)
    tracemalloc.start()
    with pytest.raises(UnreadablePicture, match="damaged zip member"):
        entry.read()
    assert tracemalloc.get_traced_memory()[1] < 1_000_000  # and was never unpacked: 10,000,000
    tracemalloc.stop()


def test_members_over_the_size_cap_and_archives_over_the_count_cap_are_refused(
    tmp_path, monkeypatch
):
    path = pack(tmp_path / "p.zip", {"a.png": b"abc" * 9, "b.png": b"B", "c.png": b"C"})
    monkeypatch.setattr(listing, "MAX_BYTES", 26)
    with pytest.raises(UnreadablePicture, match=r"a\.png: too large"):
        list_pictures(path)[0].read()
    monkeypatch.setattr(listing, "MAX_MEMBERS", 2)
    with pytest.raises(UserError, match="3 members, at most 2"):
        list_pictures(path)


def test_encrypted_damaged_and_exotic_members_have_their_reasons(tmp_path):
    path = pack(tmp_path / "p.zip", {"a.png": bytes(range(256))})
    raw = path.read_bytes()

    def reason(change) -> str:
        data = bytearray(raw)
        change(data, data.index(b"PK\1\2"))
        path.write_bytes(data)
        with pytest.raises(UnreadablePicture) as caught:
            list_pictures(path)[0].read()
        return caught.value.cause

    def set_byte(offset, value):
        return lambda data, place: data.__setitem__(place + offset, value)

    assert "encrypted" in reason(set_byte(8, 1))
    assert reason(lambda data, place: data.__setitem__(60, data[60] ^ 1)) == "damaged zip member"
    assert reason(lambda data, place: data.__setitem__(0, 0)) == "damaged zip member"
    path = pack(tmp_path / "p.zip", {"a.png": b"A"}, zipfile.ZIP_BZIP2)
    with pytest.raises(UnreadablePicture, match="zip method 12; pack again with deflate"):
        list_pictures(path)[0].read()


def test_of_two_members_named_alike_the_last_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as file:
        file.writestr("a.png", b"old")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a.png", b"new")
    (entry,) = list_pictures(tmp_path / "p.zip")
    assert entry.read() == b"new"


def test_many_threads_and_a_pickled_copy_read_one_zip(tmp_path):
    members = {f"{i:03}.png": random.Random(i).randbytes(5000) for i in range(100)}
    entries = list_pictures(pack(tmp_path / "p.zip", members))
    copies = pickle.loads(pickle.dumps(entries))
    assert copies == entries
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(Entry.read, copies * 4))
    assert read == list(members.values()) * 4


# ----------------------------------------------------------------------------------- output names


def test_sub_folders_are_kept_and_the_suffix_is_changed():
    assert outputs("a.jpg", "s/t/b.webp", "noext") == ["a.png", "s/t/b.png", "noext.png"]
    assert outputs("a.b.jpg", suffix=".jpg") == ["a.b.jpg"]


def test_inputs_with_one_stem_each_keep_their_old_suffix():
    assert outputs("a.jpg", "a.png", "b.png") == ["a_jpg.png", "a_png.png", "b.png"]
    assert outputs("b.png", "a.png", "a.jpg") == ["b.png", "a_png.png", "a_jpg.png"]


def test_names_that_clash_again_get_a_hash_and_so_do_names_that_differ_in_case():
    for names in (("a.jpg", "a.png", "a_jpg.gif"), ("A.jpg", "a.jpg"), ("é.png", "e\u0301.png")):
        made = outputs(*names)
        assert len({name.casefold() for name in made}) == len(names)
    assert outputs("x.png/a.jpg", "x.jpg") == ["x.png/a.png", "x_jpg.png"]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("with space.jpg", "with space.png"),
        ("Zoë 雪.jpg", "Zoë 雪.png"),
        ("two\nlines.jpg", "two_lines.png"),
        ("-rf.jpg", "_rf.png"),
        ("-d/-a.jpg", "_d/_a.png"),
        ("../../up.jpg", "_/_/up.png"),
        ("//abs.jpg", "abs.png"),
        ("con.jpg", "_con.png"),
        ('a<b>"c.jpg', "a_b__c.png"),
        ("bytes\udcff.jpg", "bytes_.png"),
        ("evil\u202egpj.jpg", "evil_gpj.png"),
    ],
)
def test_odd_names_become_legal_ones(name, made):
    assert outputs(name) == [made]


def test_long_names_are_cut_and_stay_apart(tmp_path):
    long = ["x" * 250 + ".jpg", "x" * 249 + "y.jpg", "雪" * 250 + ".jpg"]
    entries = [Entry(name, Path("/in") / name) for name in long]
    paths = output_names(entries, tmp_path, ".png")
    assert len(set(paths)) == 3
    for path in paths:
        path.write_bytes(b"x")
        assert len(path.name.encode()) <= 220


def test_real_files_with_odd_names_are_listed_and_can_be_written(tmp_path):
    names = ["a b.png", "é.png", "n\nl.png", "-rf.png", "y" * 250 + ".png"]
    entries = list_pictures(fill(tmp_path / "in", *names))
    assert sorted(entry.name for entry in entries) == sorted(names)
    paths = output_names(entries, tmp_path / "out", ".png")
    (tmp_path / "out").mkdir()
    for path, entry in zip(paths, entries, strict=True):
        path.write_bytes(entry.read())
    assert len(os.listdir(tmp_path / "out")) == 5


def test_an_output_never_overwrites_an_input(tmp_path):
    fill(tmp_path, "a.png")
    with pytest.raises(UserError, match=r"a\.png would overwrite the picture"):
        output_names(list_pictures(tmp_path / "a.png"), tmp_path, ".png")
    (tmp_path / "alias").symlink_to(tmp_path)
    with pytest.raises(UserError, match="would overwrite"):
        output_names(list_pictures(tmp_path / "a.png"), tmp_path / "alias", ".png")
    made = output_names(list_pictures(tmp_path / "a.png"), tmp_path, ".jpg")
    assert made == [tmp_path / "a.jpg"]


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=12))
def test_any_names_give_different_legal_paths_below_the_folder(names):
    made = outputs(*names)
    assert len({name.casefold() for name in made}) == len(names)
    for name in made:
        parts = name.split("/")
        assert ".." not in parts and "" not in parts and name.isprintable()


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a.jpg", "a.png", "A.gif", "b.jpg", "a_jpg.png", "c/a.jpg"])))
def test_the_order_of_the_inputs_changes_no_name(names):
    names = list(dict.fromkeys(names))
    there = dict(zip(names, outputs(*names), strict=True))
    back = dict(zip(names[::-1], outputs(*names[::-1]), strict=True))
    assert there == back


# ------------------------------------------------------------------------------- writable folder


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    folder = writable_folder(tmp_path / "a" / "b")
    assert folder.is_dir() and os.listdir(folder) == []
    assert writable_folder(str(folder)) == folder


def test_a_file_is_no_folder_for_outputs(tmp_path):
    fill(tmp_path, "file")
    for path in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(UserError, match="a folder is needed"):
            writable_folder(path)


def test_a_read_only_folder_is_found_out_before_the_work(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(listing, "open", refuse, raising=False)  # root ignores a mode of 0555
    with pytest.raises(UserError, match="cannot be written: Read-only file system"):
        writable_folder(tmp_path)
    assert os.listdir(tmp_path) == []
