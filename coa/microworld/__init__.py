"""A small invented world, real in all but its facts, on which the whole pipeline runs without a GPU or a network.

names.py        the words that names are made of, and the plain values
relations.py    what can be said about an entity, and how a passage says it
world.py        settings and a seed -> entities, facts and passages
plans.py        a path through the facts -> a question's words, and back
paths.py        world -> all the paths that a question can ask for
questions.py    world -> questions of one to four hops, comparisons, yes or no
phrases.py      the sentences that a trajectory is written in, written and read back
progress.py     a rollout's text -> how far it has come with its plan
decisions.py    how good the teacher is, and what it decided
teacher.py      a scripted, imperfect policy that writes such trajectories
pretraining.py  world -> the texts from which a student learns the known facts and how to read
vocabulary.py   every word of all that
opening.py      the section of params.yaml -> the teacher
"""
