"""Weights of other projects: files, layer names, array layouts and metadata, without models.

A source names its layers in its own way and lays out its arrays as its framework does: layer_map.py
walks our network and tells what the source calls each place, and layouts.py turns arrays.
metadata.py reads what stands beside the weights, and variants.py refuses what is another network.
Files may be anybody's: limits.py asks for their sizes before anything is read.
"""
