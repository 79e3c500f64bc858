"""Fitting a routing policy to labelled rows: thresholds for an accuracy, as fast as they allow."""
