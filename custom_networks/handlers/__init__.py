"""Handlers of a training and the files they write."""
