"""Trained models for use: a predictor for Python, and the same as a model of MLflow."""
