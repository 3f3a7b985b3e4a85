"""The folder of one training: details, history, checkpoints, TensorBoard logs."""
