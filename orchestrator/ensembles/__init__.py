"""Ensembles of trained trials: who may be a member, how members are chosen and pooled, and how sure it is which is best.

Selection and weights only ever see validation predictions. The test is read once, after the winner is fixed.
"""
