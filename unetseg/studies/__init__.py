"""Experiments with skip connections, built on `train`: what they buy, shown on a person's data.

A study is a folder: its request in study.json, the cases in data.csv, a run folder per training,
results.json and results.csv, figures as PNG and SVG, and index.html. It goes on where it stopped.
"""
