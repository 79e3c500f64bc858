"""Scoring of answers against gold: rules, places of fields, calibration."""
