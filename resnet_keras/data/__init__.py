"""Images to train on and to measure with; sources yield NumPy, tf.data is one adapter."""
