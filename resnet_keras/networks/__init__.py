"""Networks: Keras models built from architectures, with weights from anywhere."""
