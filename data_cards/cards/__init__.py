"""Make the cards of sets and models: measure first, then render.

`measure` reads the files of the run and gives one record of facts about a set; `spreads`, `yields`,
`masks`, `reviews` and `set_info` count for it. `card` renders that record; `sections`, `example`,
`licences` and `front_matter` write parts of it, and all foreign text goes through `safe_markdown`.
`all_sets` does both for every set.

For a trained model `measure_model` gives the record, which `trained` reads most of, and
`model_card` renders it. `card_files` writes finished cards into their folder.
"""
