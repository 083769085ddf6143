"""A graded trajectory to why it failed. `curate.analyse` is the stage, `curate.report` the page.

causes      the taxonomy, and what a rule says when it has found one
rules       the order of the rules, and those on form and grade
answers     whether a wrong answer says the same as an accepted one
denials     whether an answer names an accepted one only to rule it out
same_names  nationalities as countries, dates in one order
facts       the rules on facts: which one is wrong, and what led to it
comparing   the same for questions that compare two things
queries     whether a query was a good one
case        a wrong trajectory as the rules on facts see it
claims      thoughts to claims: what is stated, and how the policy came by it
gold        gold titles and the corpus to what had to be found
"""
