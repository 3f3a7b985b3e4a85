"""Weights of other sources, as our networks take them: names and layouts, and no models.

A source names its layers in its own way and lays out its arrays as its framework does; places.py
walks our network, naming.py tells what the source calls each place, and layouts.py turns arrays.
"""
