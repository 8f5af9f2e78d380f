"""Metadata of boorus for tests: one row of each kind, and files of them."""

import pathlib

from artifygan_jax.data.safebooru.posts import Metadata, open_metadata

HEADER = "id,created_at,rating,score,sample_url,sample_width,sample_height,preview_url,tags"
ROW = (
    '5,1500000000,s,-3,//safebooru.org//samples/1/sample_ab.jpg,850,600,//safebooru.org/t.jpg,"{}"'
)

SAFEBOORU = {
    "directory": "592",
    "image": "4a8e.png",
    "hash": "0123456789abcdef0123456789abcdef",
    "id": 77,
    "height": 1200,
    "width": 800,
    "rating": "general",
    "sample": True,
    "sample_width": 400,
    "sample_height": 600,
    "change": 1600000000,
    "score": None,
    "tags": "1girl smile don&#039;t :d",
}
DANBOORU = {
    "id": 88,
    "created_at": "2006-09-29T21:30:17.000-04:00",
    "rating": "g",
    "score": 2,
    "md5": "6b7cfd682de80770b8514be779f7e4c2",
    "image_width": 520,
    "image_height": 613,
    "file_ext": "jpg",
    "is_deleted": False,
    "is_banned": False,
    "tag_string": "1girl yellow_eyes ^_^",
    "file_url": "https://cdn.donmai.us/original/6b/7c/6b7c.jpg",
    "large_file_url": "https://cdn.donmai.us/sample/6b/7c/sample-6b7c.jpg",
}


def metadata(folder: pathlib.Path, content: str | bytes, name: str = "posts") -> Metadata:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_metadata(path)
