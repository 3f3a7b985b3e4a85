"""Evaluation: error rates, test protocols, ensembles, Grad-CAM, plots and the report."""
