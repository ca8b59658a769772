"""Sentence encoders and the vectors that they gave."""
