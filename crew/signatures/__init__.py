"""Signatures of tasks: binds arguments to parameters, and converts and checks values by the annotations."""
