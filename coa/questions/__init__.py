"""Which questions are alike, so that none of an evaluation set is trained on."""
