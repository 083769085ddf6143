"""Train models on the sets, and evaluate them.

The package meets the other stages only in files under data/.
"""
