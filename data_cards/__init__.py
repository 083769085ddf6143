"""Write the cards of sets and models, and publish both on the Hub.

The package meets the other stages only in files under data/.
"""
