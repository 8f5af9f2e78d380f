"""VGG-19 without batch norm, from torchvision or from a conversion of the Caffe model."""

import functools

from artifygan_jax.weights import vgg

plan = functools.partial(vgg.plan_of, 19)
layout = functools.partial(vgg.layout_of, 19)
