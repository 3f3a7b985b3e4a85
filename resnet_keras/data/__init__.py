"""Labelled images: sources, splits, decoding, checks, augmentation and input pipelines."""
