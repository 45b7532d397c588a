"""Figures for operators, in the format of Prometheus: what is counted, and where it can be read."""
