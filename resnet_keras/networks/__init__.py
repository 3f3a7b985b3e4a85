"""Keras models of architectures: layers, blocks, feature maps, backbones, with weights."""
