"""Invent a small world on which the whole pipeline runs without a GPU or a network.

Only its facts are invented: questions, searches, trajectories and training are real.

names.py        the words that names are made of, and the plain values
relations.py    what can be said about an entity, and how a passage says it
world.py        the entities, facts and passages that follow from settings and a seed
plans.py        a question for a path through the facts, and the path of a question
paths.py        all the paths that a question can ask for
questions.py    questions of one to four hops, comparisons, yes or no
phrases.py      the sentences of trajectories
teacher.py      the facts that the scripted teacher (coa/policy/teacher) needs
factory.py      the teacher that the section `microworld` of params.yaml describes
pretraining.py  the texts from which a student learns the known facts and how to read
"""
