"""Safebooru (and Danbooru) pictures: metadata, downloads, and a tensorflow-datasets data set of them."""
