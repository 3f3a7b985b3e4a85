"""Weights of other projects: files, layer names, array layouts and metadata, without models.

A source names its layers in its own way and lays out its arrays as its framework does; places.py
walks our network, naming.py tells what the source calls each place, and layouts.py turns arrays.
cards.py reads what stands beside the weights, and variants.py refuses what is another network.
Files may be anybody's: limits.py asks for their sizes before anything is read.
"""
