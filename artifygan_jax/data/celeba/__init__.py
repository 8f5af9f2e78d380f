"""CelebA from its official files as a tensorflow-datasets data set."""
