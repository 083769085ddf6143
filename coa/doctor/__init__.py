"""Examine what a row of training data trains: token by token, and by who wrote the text.

A reader (`set_rows`, `finished_rows`, `chat_rows`) makes a `MaskedRow` of any row: the token ids
and mask that a trainer would get, and who wrote which characters. `examine` compares the two.
`coa doctor` reads a file and reports; a browser can call the same functions.
"""
