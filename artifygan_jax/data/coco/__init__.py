"""COCO 2017 from its official zips as a tensorflow-datasets data set."""
