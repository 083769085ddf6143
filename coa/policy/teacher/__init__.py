"""Write trajectories by one script, for invented and for real questions.

sentences.py   the sentences of its thoughts, written and read back
settings.py    how good it is, and what it decided
script.py      the script: it needs facts, searches, reads and concludes
titled.py      what it knows of a question with answers, and titles where they are known
"""
