"""Read trajectories in other projects' formats into steps, with an author for every character.

Steps keep the foreign text verbatim: joined, they give it again (coa/foreign/own_tags.py turns such
steps into ours). A text that allows two readings is refused: `UnreadableError` says why and where.

To add a family of formats, write one small module that turns a row into a `ForeignRow`
(`record.py` reads the columns that formats share, `step_makers.py` makes the steps), give each
format a name in `record.Format`, and list it in `rows.FORMATS`. If its observations or answers
have frames of their own, `frames.py` must know them.
"""
