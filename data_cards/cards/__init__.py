"""Make the cards of sets and models.

`card` measures the sets, fills templates/ and writes the front page; `contents`, `yields`,
`reviews`, `sources`, `example`, `licences` and `front_matter` give it their parts, and all foreign
text goes through `safe_markdown`. `model_card` does the same for a trained model, of which
`trained` reads the chain and the results. `card_files` writes finished cards into their folder.
"""
